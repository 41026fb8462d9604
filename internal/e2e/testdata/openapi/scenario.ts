// Goes the way of a team with the client that is generated from /openapi.json: the
// compiler holds every path, parameter, field and error against the description.
import createClient from "openapi-fetch";
import type { components, paths } from "./client.js";

declare const process: { argv: string[] };
const [, , baseUrl = "", secret = ""] = process.argv;

type Problem = components["schemas"]["Problem"];

function must<T>(what: string, answer: { data?: T; error?: Problem; response: Response }): T {
  if (answer.error || !answer.response.ok) {
    throw new Error(`${what}: ${answer.response.status} ${JSON.stringify(answer.error)}`);
  }
  return answer.data as T;
}

function refused(what: string, answer: { error?: Problem; response: Response }, status: number, kind: string): Problem {
  const p = answer.error;
  if (answer.response.status !== status || p?.type !== `urn:hallmark:problem:${kind}` || !p.detail) {
    throw new Error(`${what}: want ${status} ${kind}, have ${answer.response.status} ${JSON.stringify(p)}`);
  }
  return p;
}

function same(what: string, have: unknown, want: unknown) {
  if (JSON.stringify(have) !== JSON.stringify(want)) {
    throw new Error(`${what}: want ${JSON.stringify(want)}, have ${JSON.stringify(have)}`);
  }
}

// The first administrator, by the one-time link.
const nobody = createClient<paths>({ baseUrl });
same("nobody", must("whoami", await nobody.GET("/api/v1/whoami")).name, "");
same("purpose", must("link", await nobody.GET("/api/v1/links/{secret}", { params: { path: { secret } } })).purpose, "setup");
const first = await nobody.POST("/api/v1/links/{secret}", {
  params: { path: { secret } },
  body: { name: "ann", password: "correct horse battery staple" },
});
const cookie = (first.response.headers.get("set-cookie") ?? "").split(";")[0] ?? "";
const form = must("use the link", first).form_token;
refused("the link again", await nobody.GET("/api/v1/links/{secret}", { params: { path: { secret } } }), 404, "not-found");

// Her session changes nothing without its form token.
const forged = createClient<paths>({ baseUrl, headers: { cookie } });
const advice = refused("without the form token", await forged.POST("/api/v1/orgs", { body: { name: "acme" } }), 403, "denied").advice;
if (!advice?.includes("X-Hallmark-Form")) throw new Error(`advice: ${advice}`);
const ann = createClient<paths>({ baseUrl, headers: { cookie, "X-Hallmark-Form": form } });
same("tier", must("organization", await ann.POST("/api/v1/orgs", { body: { name: "acme" } })).tier, "free");
must("tier", await ann.PUT("/api/v1/orgs/{org}/tier", { params: { path: { org: "acme" } }, body: { tier: "team" } }));

// The rest is done with a token.
const token = must("token", await ann.POST("/api/v1/tokens", { body: { label: "scenario", scopes: ["read", "write", "admin"], days: 1 } })).secret;
const api = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } });
same("who", must("whoami", await api.GET("/api/v1/whoami")).memberships, [{ organization: "acme", role: "owner" }]);
refused("a token from a token", await api.POST("/api/v1/tokens", { body: { label: "x", scopes: ["read"], days: 1 } }), 403, "denied");
const org = must("organization", await api.GET("/api/v1/orgs/{org}", { params: { path: { org: "acme" } } }));
same("its tier", [org.tier, org.quota.secure_artifacts, org.quota.projects, org.members.map((m) => m.name)], ["team", true, 100, ["ann"]]);

const made = must("project", await api.POST("/api/v1/projects", { body: { project: "acme/web", at_time: "2026-11-01T00:00:00Z" } }));
same("project", [made.project, made.requirements, made.role], ["acme/web", [], "owner"]);
const path = { org: "acme", project: "web" };
const change = { add: ["e2e-good"], expected: made.commit };
const proposal = must("proposal", await api.POST("/api/v1/projects/{org}/{project}/proposals", { params: { path }, body: change }));
same("proposal", [proposal.head, proposal.diff.added], [made.commit, ["e2e-good"]]);
const committed = must("commit", await api.POST("/api/v1/projects/{org}/{project}/commits", { params: { path }, body: change }));
same("commit", [committed.commit.parent, committed.commit.author, committed.run], [made.commit, "ann", undefined]);
refused("on an old commit", await api.POST("/api/v1/projects/{org}/{project}/commits", { params: { path }, body: { add: ["other"], expected: made.commit } }), 409, "conflict");
refused("status before the build", await api.GET("/api/v1/projects/{org}/{project}/status", { params: { path } }), 409, "conflict");
refused("malformed", await api.POST("/api/v1/projects", { body: { project: "a b" } }), 400, "usage");
const diff = must("diff", await api.GET("/api/v1/projects/{org}/{project}/diff", { params: { path, query: { from: made.commit, to: committed.commit.id } } }));
same("diff", diff, { added: ["e2e-good"], removed: [], changed: [], fields: [] });

// A build is queued and taken back.
const run = must("run", await api.POST("/api/v1/projects/{org}/{project}/runs", { params: { path }, body: {} }));
const one = { params: { path: { ...path, run: run.id } } };
const cancelled = await api.POST("/api/v1/projects/{org}/{project}/runs/{run}/cancel", one);
if (!cancelled.response.ok && cancelled.response.status !== 409) throw new Error(`cancel: ${cancelled.response.status}`);
for (let i = 0; ; i++) {
  const now = must("run", await api.GET("/api/v1/projects/{org}/{project}/runs/{run}", one));
  if (now.state !== "queued" && now.state !== "running") break;
  if (i > 300) throw new Error(`the run does not end: ${JSON.stringify(now)}`);
  await new Promise((done) => setTimeout(done, 200));
}
same("runs", must("runs", await api.GET("/api/v1/projects/{org}/{project}/runs", { params: { path } })).runs.length, 1);

// What a build would do, with an override of its own, which a commit then has.
const overrides = [{ name: "e2e-good", entries: [{ change: { origin: "project", environment: [{ name: "E2E_X", values: ["1"], why: "a test" }] } }] }];
const forecast = must("forecast", await api.POST("/api/v1/projects/{org}/{project}/forecasts", { params: { path }, body: { overrides } }));
same("forecast", [forecast.project, forecast.solved], ["acme/web", false]);
const overridden = must("commit", await api.POST("/api/v1/projects/{org}/{project}/commits", { params: { path }, body: { overrides } })).commit;
same("overrides", must("overrides", await api.GET("/api/v1/projects/{org}/{project}/overrides", { params: { path } })).overrides, overrides);
refused("overrides of the loader", await api.POST("/api/v1/projects/{org}/{project}/commits", {
  params: { path },
  body: { overrides: [{ name: "e2e-good", entries: [{ change: { origin: "project", environment: [{ name: "LD_PRELOAD", values: ["1"], why: "a test" }] } }] }] },
}), 400, "usage");
must("no overrides", await api.POST("/api/v1/projects/{org}/{project}/commits", { params: { path }, body: { overrides: [], expected: overridden.id } }));

// A package is built beside the commits.
const single = must("package build", await api.POST("/api/v1/projects/{org}/{project}/package-builds", { params: { path }, body: { requirement: "e2e-good", at_time: "2026-11-01T00:00:00Z" } }));
same("task", single.task, { kind: "build", what: "e2e-good" });
const its = { params: { path: { ...path, run: single.id } } };
must("cancel", await api.POST("/api/v1/projects/{org}/{project}/runs/{run}/cancel", its));
refused("rebuild before the build", await api.POST("/api/v1/projects/{org}/{project}/rebuilds", { params: { path }, body: { artifact: "e2e-good" } }), 409, "conflict");
const seed = must("seed", await api.GET("/api/v1/seed"));
if (seed.packages.length < 10) throw new Error(`seed: ${JSON.stringify(seed)}`);

// Settings, a waiver, the way back, the audit log.
must("settings", await api.PUT("/api/v1/projects/{org}/{project}/settings", { params: { path }, body: { public: true, require_secure: false } }));
same("public", must("project", await nobody.GET("/api/v1/projects/{org}/{project}", { params: { path } })).requirements, ["e2e-good"]);
const expires = new Date(Date.now() + 86_400_000).toISOString();
must("waiver", await api.POST("/api/v1/projects/{org}/{project}/waivers", { params: { path }, body: { purl: "pkg:pypi/e2e-good@1.0", reason: "it is ours", expires } }));
const waiver = must("waivers", await api.GET("/api/v1/projects/{org}/{project}/waivers", { params: { path } })).waivers[0];
if (!waiver || waiver.owner !== "ann" || waiver.ended) throw new Error(`waiver: ${JSON.stringify(waiver)}`);
must("end the waiver", await api.DELETE("/api/v1/projects/{org}/{project}/waivers/{id}", { params: { path: { ...path, id: waiver.id } } }));
must("revert", await api.POST("/api/v1/projects/{org}/{project}/reverts", { params: { path }, body: { commit: made.commit } }));
const history = must("history", await api.GET("/api/v1/projects/{org}/{project}/commits", { params: { path } })).commits;
same("history", history.map((c) => c.requirements), [[], ["e2e-good"], ["e2e-good"], ["e2e-good"], []]);
const audit = must("audit", await api.GET("/api/v1/orgs/{org}/audit", { params: { path: { org: "acme" }, query: { limit: 3 } } }));
const older = must("audit", await api.GET("/api/v1/orgs/{org}/audit", { params: { path: { org: "acme" }, query: { limit: 1000, before: audit.before } } }));
const ndjson = must("audit export", await api.GET("/api/v1/orgs/{org}/audit.ndjson", { params: { path: { org: "acme" } }, parseAs: "text" }));
same("the whole audit log", ndjson.trim().split("\n").map((l) => (JSON.parse(l) as { seq: number }).seq), [...audit.entries, ...older.entries].map((e) => e.seq));
if (ndjson.includes(token) || ndjson.includes(secret)) throw new Error("a secret is in the audit log");

// A member by invitation, who may less.
const link = must("invitation", await ann.POST("/api/v1/orgs/{org}/invitations", { params: { path: { org: "acme" } }, body: { role: "auditor" } })).secret;
const joined = await nobody.POST("/api/v1/links/{secret}", {
  params: { path: { secret: link.slice(link.lastIndexOf("/") + 1) } },
  body: { name: "bob", password: "another correct horse" },
});
const bob = createClient<paths>({ baseUrl, headers: { cookie: (joined.response.headers.get("set-cookie") ?? "").split(";")[0] ?? "", "X-Hallmark-Form": must("join", joined).form_token } });
refused("an auditor commits", await bob.POST("/api/v1/projects/{org}/{project}/commits", { params: { path }, body: { add: ["x"] } }), 403, "denied");
refused("users for bob", await bob.GET("/api/v1/users"), 403, "denied");
must("sign out", await bob.DELETE("/api/v1/session"));
same("bob is gone", must("whoami", await bob.GET("/api/v1/whoami")).name, "");
const mine = must("tokens", await ann.GET("/api/v1/tokens")).tokens[0];
must("revoke", await ann.DELETE("/api/v1/tokens/{id}", { params: { path: { id: mine?.id ?? "" } } }));
refused("a revoked token", await api.GET("/api/v1/whoami"), 401, "denied");
console.log("the scenario ran");
