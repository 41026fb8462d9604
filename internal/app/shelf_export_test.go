package app

import "time"

// NeverLate has a server wait for every computation, however long it takes: on a busy
// machine a short one may be long.
func (a *App) NeverLate() { a.kept().dear = time.Hour }
