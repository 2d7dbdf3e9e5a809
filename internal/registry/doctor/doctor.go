// Package doctor looks at a registry server from outside and says what makes it weak, and what to do about it.
//
//	for _, f := range doctor.Examine(config, time.Now()) {
//		fmt.Println(f) // weak  admin.token: mode 0644 lets others in → chmod 600 /var/lib/weft/admin.token
//	}
//
// It reads files, and takes the lock of the store only if no server has it; beside a server that runs it says what it
// could not look at. It changes nothing.
package doctor

import (
	"fmt"
	"time"

	"github.com/weftmesh/weft/internal/registry/server"
)

// Status says how a thing is.
type Status string

// The statuses. Bad is what fails already or will at the next start; weak is what a stranger or an accident can use.
const (
	OK      Status = "ok"
	Unknown Status = "?" // it could not be looked at, which the text explains; no weakness
	Weak    Status = "weak"
	Bad     Status = "bad"
)

// Finding is what was found about one thing.
type Finding struct {
	Status Status
	Thing  string
	Text   string
	Remedy string // what to do; "" if nothing is to be done
}

// String is one line.
func (f Finding) String() string {
	line := fmt.Sprintf("%-4s  %s: %s", f.Status, f.Thing, f.Text)
	if f.Remedy != "" {
		line += " → " + f.Remedy
	}
	return line
}

// Healthy reports whether there is no weakness.
func Healthy(findings []Finding) bool {
	for _, f := range findings {
		if f.Status == Weak || f.Status == Bad {
			return false
		}
	}
	return true
}

// visit is one examination.
type visit struct {
	config   server.Config
	now      time.Time
	findings []Finding
}

func (v *visit) say(s Status, thing, text, remedy string) {
	v.findings = append(v.findings, Finding{s, thing, text, remedy})
}

// Examine looks at the server of a configuration, whether it runs or not. The order of the findings is fixed.
func Examine(c server.Config, now time.Time) []Finding {
	v := &visit{config: c, now: now}
	if v.directory() {
		v.files()
		v.fileTokens()
		v.identity()
		v.store()
		v.backups()
		v.disk()
		v.clock()
	}
	v.listeners()
	v.given()
	v.descriptors()
	v.checks()
	return v.findings
}
