package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
)

// build is what is known about this binary.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func thisBuild() build {
	b := build{Version: "devel", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

type versionCommand struct{ listing }

// Run prints the version.
func (c *versionCommand) Run(w *world) error {
	b := thisBuild()
	return c.print(w, b, func(t io.Writer) {
		row(t, fmt.Sprintf("trunkline %s %s %s", b.Version, b.Go, b.Platform))
	})
}
