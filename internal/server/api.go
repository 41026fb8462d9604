package server

import (
	"context"
	"fmt"
	"net/http"
	"path"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"hallmark/internal/account"
	"hallmark/internal/api"
	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/platform"
	"hallmark/internal/project"
	"hallmark/internal/status"
)

// Reports gives what is known of a stored commit. Whether whoever asks may read the
// project was asked before; the commit is one of it.
type Reports interface {
	// Status is the commit's status document: fault.Conflict, with advice, if it was
	// not solved yet. The same holds for what follows.
	Status(ctx context.Context, commit digest.Digest) (status.Document, error)
	// Why is the way from an artifact to what is missing.
	Why(ctx context.Context, commit digest.Digest, artifact string) ([]status.Hop, error)
	// Frontier is what of the closure was not built from source.
	Frontier(ctx context.Context, commit digest.Digest) (status.Frontier, error)
	// Plan is the canonical JSON of what the commit was solved to.
	Plan(ctx context.Context, commit digest.Digest) ([]byte, error)
	// Lock is hallmark.lock of the commit.
	Lock(ctx context.Context, commit digest.Digest) ([]byte, error)
	// NewUnknown names the artifacts of grade unknown that were not so in the parent.
	NewUnknown(ctx context.Context, commit digest.Digest) ([]string, error)
	// Export gives an artifact's evidence as files, but for the artifact itself.
	Export(ctx context.Context, commit digest.Digest, artifact string) (api.Export, error)
	// BuildLog finds a build of the commit's plan by an artifact, a step or the
	// build's id, and gives its log; fault.NotFound for any other build.
	BuildLog(ctx context.Context, commit digest.Digest, name string) (api.Log, []byte, error)
}

func init() {
	// How huma says by itself that a request is malformed, and what /openapi.json
	// says that errors are. Values of a request are never sent back.
	huma.NewError = func(code int, text string, errs ...error) huma.StatusError {
		kind := fault.Usage
		if code >= 500 {
			kind = ""
		}
		p := api.NewProblem(code, kind, text)
		for _, err := range errs {
			var f api.ProblemField
			switch e := err.(type) {
			case nil:
				continue
			case huma.ErrorDetailer:
				d := e.ErrorDetail()
				f = api.ProblemField{Location: d.Location, Message: d.Message}
			default:
				f.Message = err.Error()
			}
			p.Errors = append(p.Errors, f)
		}
		return p
	}
	huma.DefaultArrayNullable = false // an empty list is [], never null
}

// surface is the API while it is registered.
type surface struct {
	*Server
	api huma.API
}

// The tags of operations.
const (
	tagAccount  = "Account"
	tagOrgs     = "Organizations"
	tagProjects = "Projects"
	tagBuilds   = "Builds"
	tagEvidence = "Evidence"
	tagAdmin    = "Administration"
)

// registerAPI describes and registers the API: each function of the platform and of
// accounts that a person has. Errors are problems as RFC 9457 has them.
func (s *Server) registerAPI(mux *http.ServeMux) {
	c := huma.DefaultConfig("Hallmark", "v1")
	c.Info.Description = "How a project's packages were built, by whom, and what is proven of it. Whoever may not read something gets the answer for what is not there. " +
		"Nothing that can be sent here changes a class or a percentage."
	c.DocsPath, c.SchemasPath = "", "" // the docs page loads scripts from elsewhere
	c.CreateHooks = nil                // no $schema in answers: the documents have schemas of their own
	c.Servers = []*huma.Server{{URL: s.opts.ExternalURL}}
	c.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	c.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"token":  {Type: "http", Scheme: "bearer", Description: "An API token, made on the account's page or by create-token. What it may do its scopes and its user's role say together."},
		"basic":  {Type: "http", Scheme: "basic", Description: "An API token as password, with any user name or __token__, as package clients send it."},
		"cookie": {Type: "apiKey", In: "cookie", Name: s.cookieName(), Description: "A session, begun by create-session or on the sign-in page."},
		"form":   {Type: "apiKey", In: "header", Name: api.FormHeader, Description: "The session's form token, which get-whoami tells: what changes something needs it beside the cookie. Requests with a token need none."},
	}
	c.Tags = []*huma.Tag{{Name: tagAccount, Description: "Who asks, sessions, tokens, one-time links"}, {Name: tagOrgs, Description: "Organizations, members, audit log"},
		{Name: tagProjects, Description: "Configuration, commits, status, settings, waivers"}, {Name: tagBuilds, Description: "Builds on the server, and their logs"},
		{Name: tagEvidence, Description: "Signed statements, plans, exports"}, {Name: tagAdmin, Description: "Users, tiers, the platform's audit log"}}
	a := surface{s, humago.New(mux, c)}
	a.api.UseMiddleware(func(ctx huma.Context, next func(huma.Context)) {
		ctx.SetHeader("Cache-Control", "private, no-store")
		if err := s.checkForm(ctx.Context(), ctx.Method(), ctx.Header(api.FormHeader)); err != nil {
			p := s.problem(ctx.Context(), ctx.URL().Path, err)
			ctx.SetHeader("Content-Type", p.ContentType(""))
			ctx.SetStatus(p.Status)
			_ = huma.DefaultJSONFormat.Marshal(ctx.BodyWriter(), p) // whoever went away needs no answer
			return
		}
		next(ctx)
	})
	a.api.UseMiddleware(s.heavyBodies())
	a.accountAPI()
	a.identityAPI()
	a.orgAPI()
	a.projectAPI()
	a.commitAPI()
	a.branchAPI()
	a.buildAPI(mux)
	a.remedyAPI()
	a.evidenceAPI(mux)
	a.adminAPI(mux)
	a.operateAPI()
	truthful(c.Components.Schemas)
	mux.HandleFunc("/api/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, "There is no such operation.\n  See /openapi.json for those that there are.")
	})
}

// checkForm refuses a session's request that changes something and does not bring
// the session's form token: another site's page cannot know it.
func (s *Server) checkForm(ctx context.Context, method, token string) error {
	if method == http.MethodGet || method == http.MethodHead {
		return nil
	}
	a := asks(ctx)
	if a.cookie == "" || account.CheckFormToken(a.cookie, token) {
		return nil
	}
	return fault.Advise(fault.Denied, "Send the form_token of GET /api/v1/whoami as the header "+api.FormHeader+", or use an API token.",
		"the request does not bring the session's form token")
}

// schemaName names the schema of a Go type: those of package api by their own name,
// others with their package's before it, so that no two are the same.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	p := path.Base(t.PkgPath())
	if t.Name() == "" || p == "api" || p == "server" || p == "." || p == "" {
		return name
	}
	return strings.ToUpper(p[:1]) + p[1:] + name
}

// truthful corrects what Go's types cannot say: a field that is null or a document.
// It is described in place, so that OpenAPI 3.0 can say it, too.
func truthful(r huma.Registry) {
	row, reproduced := r.Map()["StatusRow"], r.Map()["StatusReproduced"]
	if row == nil || reproduced == nil || row.Properties["reproduced"] == nil {
		panic("the status document has no rows")
	}
	inPlace := *reproduced
	inPlace.Nullable = true
	row.Properties["reproduced"] = &inPlace
	delete(r.Map(), "StatusReproduced")
}

// problem is an error as the API answers it.
func (s *Server) problem(ctx context.Context, path string, err error) *api.Problem {
	r, e := http.NewRequestWithContext(ctx, http.MethodGet, "/", nil)
	if e != nil {
		return api.NewProblem(http.StatusInternalServerError, "", "Something went wrong here.")
	}
	r.URL.Path = path
	code, text := s.say(r, err)
	return api.NewProblem(code, fault.KindOf(err), text)
}

// refuse answers with an error: a problem for the API's clients, text for others.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, code int, text string) {
	if !strings.HasPrefix(r.URL.Path, "/api/") {
		http.Error(w, text, code)
		return
	}
	kinds := map[int]fault.Kind{http.StatusNotFound: fault.NotFound, http.StatusUnauthorized: fault.Denied, http.StatusForbidden: fault.Denied,
		http.StatusBadGateway: fault.Unavailable, http.StatusInternalServerError: ""}
	kind, ok := kinds[code]
	if !ok {
		kind = fault.Usage
	}
	s.writeProblem(w, api.NewProblem(code, kind, text))
}

// failAPI answers with an error as a problem.
func (s *Server) failAPI(w http.ResponseWriter, r *http.Request, err error) {
	s.writeProblem(w, s.problem(r.Context(), r.URL.Path, err))
}

func (s *Server) writeProblem(w http.ResponseWriter, p *api.Problem) {
	h := w.Header()
	h.Del("Content-Length")
	h.Set("Content-Type", p.ContentType(""))
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(p.Status)
	_ = huma.DefaultJSONFormat.Marshal(w, p) // whoever went away needs no answer
}

// operation describes an operation: what is the same for all is filled in.
func (a surface) operation(o huma.Operation) huma.Operation {
	if o.Security == nil {
		session := map[string][]string{"cookie": {}}
		if o.Method != http.MethodGet {
			session = map[string][]string{"cookie": {}, "form": {}}
		}
		o.Security = []map[string][]string{{"token": {}}, {"basic": {}}, session}
	}
	o.Errors = append(o.Errors, http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound)
	if o.Method != http.MethodGet {
		o.Errors = append(o.Errors, http.StatusConflict)
	}
	return o
}

// open to whoever reaches the server.
var anybody = []map[string][]string{{}}

// does registers an operation. do gives what is answered, or an error of a kind.
func does[I, O any](a surface, o huma.Operation, do func(ctx context.Context, in *I) (*O, error)) {
	huma.Register(a.api, a.operation(o), func(ctx context.Context, in *I) (*O, error) {
		out, err := do(ctx, in)
		if err != nil {
			return nil, a.problem(ctx, o.Path, err)
		}
		return out, nil
	})
}

// served registers an operation that the platform does, for whoever asks; a server
// that has none is fault.Unsupported.
func served[I, O any](a surface, o huma.Operation, do func(ctx context.Context, p *platform.Service, who platform.Who, in *I) (*O, error)) {
	does(a, o, func(ctx context.Context, in *I) (*O, error) {
		p, err := a.hosted()
		if err != nil {
			return nil, err
		}
		return do(ctx, p, asks(ctx).Who, in)
	})
}

// raw registers an operation whose answer is no JSON document, and describes it.
func (a surface) raw(mux *http.ServeMux, o huma.Operation, contentType, what string, params []*huma.Param, do http.HandlerFunc) {
	o = a.operation(o)
	o.Parameters = params
	for _, part := range strings.Split(o.Path, "/") {
		if name, ok := strings.CutPrefix(part, "{"); ok {
			o.Parameters = append(o.Parameters, &huma.Param{Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: "string"}})
		}
	}
	o.Responses = map[string]*huma.Response{"200": {Description: what, Content: map[string]*huma.MediaType{contentType: {Schema: &huma.Schema{Type: "string"}}}}}
	problem := a.api.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[api.Problem](), true, "")
	for _, code := range append(o.Errors, http.StatusInternalServerError) {
		o.Responses[fmt.Sprint(code)] = &huma.Response{Description: http.StatusText(code), Content: map[string]*huma.MediaType{"application/problem+json": {Schema: problem}}}
	}
	a.api.OpenAPI().AddOperation(&o)
	mux.HandleFunc(o.Method+" "+o.Path, do)
}

// body is an answer of one document.
type body[T any] struct{ Body T }

// answer wraps a document.
func answer[T any](v T, err error) (*body[T], error) {
	if err != nil {
		return nil, err
	}
	return &body[T]{v}, nil
}

// none is the answer of what only does something.
type none struct{}

func done(err error) (*none, error) {
	if err != nil {
		return nil, err
	}
	return &none{}, nil
}

// InProject is what names a project. It is exported, as whatever inputs share by
// embedding has to be, so that huma finds its fields.
type InProject struct {
	Org     string `path:"org" maxLength:"64" doc:"The organization"`
	Project string `path:"project" maxLength:"64" doc:"The project"`
}

// OnBranch names a branch of a project.
type OnBranch struct {
	InProject
	Branch string `query:"branch" maxLength:"64" doc:"Empty: the default one"`
}

// hosted gives the platform, or says that there is none.
func (s *Server) hosted() (*platform.Service, error) {
	if s.opts.Platform == nil {
		return nil, fault.New(fault.Unsupported, "this server only shows a data directory that cannot be written")
	}
	return s.opts.Platform, nil
}

// accounts gives the accounts, or says that there are none.
func (s *Server) accounts() (*account.Service, error) {
	if s.opts.Accounts == nil {
		return nil, fault.New(fault.Unsupported, "this server has one user and no accounts")
	}
	return s.opts.Accounts, nil
}

// commitID reads a commit's id, "commit:sha256:…" or its digest alone; empty is
// empty.
func commitID(s string) (digest.Digest, error) {
	if s == "" {
		return "", nil
	}
	id, err := project.ParseCommitID("commit:" + strings.TrimPrefix(s, "commit:"))
	if err != nil {
		return "", fault.New(fault.Usage, "commit %.100q: want commit:sha256: and 64 hex digits", s)
	}
	return id, nil
}
