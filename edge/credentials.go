package edge

import (
	"crypto/sha256"

	"github.com/trunkline-edge/trunkline/tunnel"
	"github.com/trunkline-edge/trunkline/wire"
)

// appOf finds the app that the registration's secret opens.
func (r *Router) appOf(reg *tunnel.Registration) (app wire.AppID, refusal string) {
	secret := string(reg.Secret)
	hash := sha256.Sum256([]byte(secret))
	app = wire.AppIDOf(secret)
	claimed := reg.AppID != wire.AppID{}
	if claimed && reg.AppID != app {
		// Right for a second secret of a listed app: its id is the hash of the first.
		if row, ok := r.table.App(reg.AppID); ok && row.HasSecret(hash) {
			return reg.AppID, ""
		}
		return reg.AppID, refusedMismatch
	}
	if row, ok := r.table.App(app); ok && row.Listed {
		if row.HasSecret(hash) {
			return app, ""
		}
		return app, refusedApp // its first secret was removed
	}
	if owner, ok := r.table.Owner(hash); ok { // a later secret of an app that did not say its id
		return owner, ""
	}
	if r.cfg.OpenApps && secret != "" {
		return app, ""
	}
	return app, refusedApp
}

// farewell is what a tunnel is closed with that was refused. A native backend reads it as a code: the name of one, where
// trying again is in vain.
func farewell(refusal string) string {
	if refusal == refusedApp || refusal == refusedMismatch {
		return wire.CodeUnknownApp.String()
	}
	return refusal
}
