package app

import "crypto"

// LogKey is the log's public key, for tests that look at the log themselves.
func (a *App) LogKey() crypto.PublicKey { return a.keys.Log.Public() }
