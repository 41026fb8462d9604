package api

import "time"

// Passkey is a WebAuthn credential, without its key.
type Passkey struct {
	ID      string     `json:"id" doc:"The credential's id, base64url"`
	Label   string     `json:"label" doc:"Which one it is"`
	Created time.Time  `json:"created"`
	Used    *time.Time `json:"used,omitempty" doc:"When last"`
}

// Identity is an account at an OpenID Connect provider that is linked.
type Identity struct {
	ID      string     `json:"id"`
	Issuer  string     `json:"issuer" doc:"The provider"`
	Label   string     `json:"label" doc:"What the provider called the person when it was linked"`
	Created time.Time  `json:"created"`
	Used    *time.Time `json:"used,omitempty" doc:"Within ten minutes"`
}

// SignInWays are the ways to sign in that a server has.
type SignInWays struct {
	Password     bool   `json:"password"`
	Passkeys     string `json:"passkeys,omitempty" doc:"Where passkeys work, as scheme and host; missing: nowhere"`
	WhyNoPasskey string `json:"why_no_passkey,omitempty" doc:"Why passkeys do not work, a sentence"`
	Provider     string `json:"provider,omitempty" doc:"What the OpenID Connect provider is called; missing: there is none"`
	ProviderURL  string `json:"provider_url,omitempty" doc:"Where a browser begins to sign in with it"`
}
