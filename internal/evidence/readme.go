package evidence

import (
	"bytes"
	"strings"
	"text/template"
	"time"
	"unicode"

	"hallmark/internal/digest"
	"hallmark/internal/fault"
	"hallmark/internal/purl"
)

// ReadmeInput is what the README beside exported evidence speaks of.
type ReadmeInput struct {
	File     string // base name of the artifact's file
	Digest   digest.Digest
	PURL     purl.PURL
	Secure   bool
	Policy   string    // URI
	Builder  string    // builder.id; empty if we did not build it
	Verifier string    // verifier.id
	Level    string    // SLSA level in the VSA; used if Secure
	KeyID    string    // of key.pub
	Newest   time.Time // of the newest evidence beside it
	Rebuild  bool      // whether rebuild.sigstore.json is there
	// Files of the public keys that signed provenance and rebuild statement, where that
	// is another key than key.pub: the one that signs now; empty: key.pub.
	ProvenanceKey, RebuildKey string
}

// README gives the text that stands beside exported evidence: the commands that
// check it with stock tools and without a network, and what they do not prove.
func README(in ReadmeInput) ([]byte, error) {
	// They stand in commands that people paste into a shell.
	for _, key := range []*string{&in.ProvenanceKey, &in.RebuildKey} {
		if *key == "" {
			*key = "key.pub"
		}
	}
	for _, s := range []string{in.File, string(in.PURL), in.Verifier, in.Builder, in.Policy, in.Level, in.ProvenanceKey, in.RebuildKey} {
		if i := strings.IndexFunc(s, func(r rune) bool { return r == '\'' || unicode.IsControl(r) || !unicode.IsPrint(r) }); i >= 0 {
			return nil, fault.New(fault.Usage, "README for %.120q: a name with a quote or control character cannot stand in a command", s)
		}
	}
	if in.File == "" || strings.HasPrefix(in.File, "-") || strings.Contains(in.File, "/") {
		return nil, fault.New(fault.Usage, "README: %.120q is no base name of a file", in.File)
	}
	var b bytes.Buffer
	if err := readme.Execute(&b, in); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

var readme = template.Must(template.New("README").Funcs(template.FuncMap{
	"date": func(t time.Time) string { return t.UTC().Format("2006-01-02") },
}).Parse(`Evidence for {{.PURL}}
file    {{.File}}
digest  {{.Digest}}
class   {{if .Secure}}secure{{else}}community{{end}} under {{.Policy}}
key     {{.KeyID}} (key.pub)
{{- if .Builder}}
builder {{.Builder}}
{{- end}}
newest  {{date .Newest}}
{{- if ne .ProvenanceKey "key.pub"}}
        {{.ProvenanceKey}} is the key that signed how it was built; it has been
        replaced by key.pub since.
{{- end}}

Run these commands in this folder. None of them needs a network. Each ends with
exit status 0 only if what it checks is true.

1. The file is the one that this evidence is about:

    echo '{{.Digest.Hex}}  {{.File}}' | sha256sum --check
{{if .Builder}}
2. How it was built, and by whom (SLSA provenance), with cosign 3.1 or later:

    cosign verify-blob-attestation --key {{.ProvenanceKey}} --bundle provenance.sigstore.json --trusted-root trusted_root.json --use-signed-timestamps --type slsaprovenance1 '{{.File}}'
{{if .Rebuild}}
3. What came out when it was built again:

    cosign verify-blob-attestation --key {{.RebuildKey}} --bundle rebuild.sigstore.json --trusted-root trusted_root.json --use-signed-timestamps --type urn:hallmark:rebuild:v1 '{{.File}}'
{{end}}{{end}}
{{if .Builder}}{{if .Rebuild}}4{{else}}3{{end}}{{else}}2{{end}}. What the policy said of it (SLSA verification summary), as a bundle and bare:

    cosign verify-blob-attestation --key key.pub --bundle vsa.sigstore.json --trusted-root trusted_root.json --use-signed-timestamps --type https://slsa.dev/verification_summary/v1 '{{.File}}'
{{if .Secure}}
    slsa-verifier verify-vsa --subject-digest {{.Digest}} --attestation-path vsa.dsse.json --verifier-id '{{.Verifier}}' --resource-uri '{{.PURL}}' --verified-level HALLMARK_SECURE --verified-level {{.Level}} --public-key-path key.pub
{{else}}
This artifact is community: its summary says FAILED, with the reasons, and
slsa-verifier verify-vsa refuses it. That is the right answer:

    slsa-verifier verify-vsa --subject-digest {{.Digest}} --attestation-path vsa.dsse.json --verifier-id '{{.Verifier}}' --resource-uri '{{.PURL}}' --public-key-path key.pub
{{end}}
To read a statement:

    python3 -c 'import base64,json,sys; print(json.dumps(json.loads(base64.b64decode(json.load(open(sys.argv[1]))["dsseEnvelope"]["payload"])), indent=1))' vsa.sigstore.json

What this does not prove. key.pub says who signed only if you have it from
somebody you trust, not from this folder. The log and the time stamp are run by
the same operator as the key: they show that a statement was entered and when
the operator's clock said so; they prove neither independent time nor that
everybody is shown the same log. A rebuild by the same operator is not a rebuild
by somebody else: run it yourself with "hallmark rebuild --plan".
`))
