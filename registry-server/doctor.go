package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftmesh/weft/internal/registry/doctor"
)

// diagnose prints what the doctor finds.
func diagnose(ctx context.Context, p process, args []string) error {
	s, err := parse(args, p.env)
	switch {
	case errors.Is(err, errHelp):
		return help(ctx, p, nil)
	case err != nil:
		return err
	case s.version:
		return version(ctx, p, nil)
	}
	findings := doctor.Examine(s.Config, time.Now())
	for _, f := range findings {
		fmt.Fprintln(p.stdout, f)
	}
	if !doctor.Healthy(findings) {
		return errQuiet
	}
	return nil
}
