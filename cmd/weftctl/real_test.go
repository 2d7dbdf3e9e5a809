package main

import (
	"context"
	"strings"
	"testing"
	"time"
)

// step is a command, how it ends and what it says; stdout and stderr are looked at together.
type step struct {
	stdin, args string
	code        int
	says        []string
}

func (s step) run(t *testing.T) string {
	t.Helper()
	code, stdout, stderr := ctl(t, s.stdin, strings.Fields(s.args)...)
	if code != s.code {
		t.Errorf("%s: code %d, want %d: %s%s", s.args, code, s.code, stdout, stderr)
	}
	for _, says := range s.says {
		if !strings.Contains(stdout+stderr, says) {
			t.Errorf("%s: %q does not say %q", s.args, stdout+stderr, says)
		}
	}
	return stdout
}

// TestADayOfAnOperator runs every command against a real server.
func TestADayOfAnOperator(t *testing.T) {
	start(t)
	t.Chdir(t.TempDir())
	put(t, "p1", `{"address": "127.0.0.1:9001", "protocol": "http", "ttl": "1h"}`)
	changed := strings.Replace(documents, "attempts: 5", "attempts: 4", 1)
	for _, s := range []step{
		{documents, "diff -f -", exitDiffers, []string{"+kind: Route", "+kind: Retry"}},
		{documents, "apply -f - --wait", 0, []string{"route/canary created", "acknowledged by 0 of 0 clients"}},
		{documents, "diff -f -", 0, nil},
		{changed, "apply -f - --dry-run", 0, []string{"retry/patient configured (dry run)", "-  attempts: 5", "+  attempts: 4", "route/canary unchanged (dry run)"}},
		{changed, "apply -f -", 0, []string{"retry/patient configured"}},
		{"", "diff retry patient", exitDiffers, []string{"-  attempts: 5", "+  attempts: 4"}},
		{"", "history retry patient", 0, []string{"configured", "created", "admin"}},
		{"", "rollback retry patient --dry-run", 0, []string{"retry/patient configured (dry run)"}},
		{"", "rollback retry patient --wait=0.5", 0, []string{"retry/patient configured"}},
		{documents, "diff -f -", 0, nil},
		{strings.ReplaceAll(named("late"), "attempts: 5", "attempts: 2"), "apply -f - --delete retry/patient", 0, []string{"retry/late created", "retry/patient deleted"}},
		{"", "rollback retry patient", 0, []string{"retry/patient created"}},
		{"", "rollback retry late", exitFailed, []string{"this is the first"}},
		{"", "rollback retry late --to 1-1", exitFailed, []string{"1-1"}},
		{"", "history retry never", exitFailed, []string{"never"}},

		{"", "drain product p1 --wait", 0, []string{"instance/p1 draining", "acknowledged by 0 of 0 clients"}},
		{"", "isolate product.default p1", 0, []string{"instance/p1 isolated"}},
		{"", "resume product p1", 0, []string{"instance/p1 up"}},
		{"", "weight product p1 7", 0, []string{"instance/p1 up, weight 7"}},
		{"", "weight product p1 --reset", 0, []string{"instance/p1 up, weight 100"}},
		{"", "drain product p9", exitFailed, []string{"p9"}},

		{"", "alias set 64001:17 product", 0, []string{"alias/64001:17 stands for product"}},
		{"", "alias set items product.shop --wait", 0, []string{"acknowledged by 0 of 0"}},
		{"", "alias set product cart", exitFailed, []string{"product"}},
		{"", "alias list", 0, []string{"64001:17   product"}},
		{"", "alias delete items", 0, []string{"alias/items deleted"}},
		{"", "alias delete items", exitFailed, []string{"items"}},

		{"", "clients", 0, []string{"PROCESS"}},
		{"", "clients --behind --service product", 0, []string{"PROCESS"}},
		{"", "protection", 0, []string{"SERVICE"}},
		{"", "protection override product --for 10m", 0, []string{"overridden for 10m"}},
		{"", "protection end product", 0, []string{"no longer overridden"}},
		{"", "protection override --all --for 1h", 0, []string{"(all) overridden"}},
		{"", "status -o wide", 0, []string{"store         ok", "registry.db"}},
		{"", "audit --kind retry --limit 3", 0, []string{"admin", "patient"}},
		{"", "audit --limit 2 --since 1h", 0, []string{"AGE"}},
		{"", "tokens create --name ci --role root", exitUsage, nil},
		{"", "get rules -n Shop", exitFailed, []string{"namespace"}},
	} {
		s.run(t)
	}
	tokensOfARealServer(t)
	backupOfARealServer(t)
	step{"", "remove product p1 --wait", 0, []string{"instance/p1 removed"}}.run(t)
}

// tokensOfARealServer makes one, uses it for what it may and may not do, and takes it back.
func tokensOfARealServer(t *testing.T) {
	t.Helper()
	text := step{"", "tokens create --name reader-of-shop --role reader --namespaces shop --ttl 1h", 0, []string{"reader-of-shop", "shown this once"}}.run(t)
	id := strings.TrimSpace(strings.TrimPrefix(step{"", "tokens list -o name", 0, nil}.run(t), "token/"))
	reader := " --token " + strings.TrimSpace(text)
	step{"", "get services -n shop" + reader, 0, nil}.run(t)
	step{"", "get services" + reader, exitFailed, []string{"WEFT_TOKEN"}}.run(t)
	step{"", "drain product.shop p1" + reader, exitFailed, []string{"WEFT_TOKEN"}}.run(t)
	step{"", "tokens list" + reader, exitFailed, []string{"WEFT_TOKEN"}}.run(t)
	step{"", "tokens revoke " + id, 0, []string{"revoked"}}.run(t)
	step{"", "get services -n shop" + reader, exitFailed, []string{"did not take the token"}}.run(t)
	step{"", "tokens revoke " + id, exitFailed, nil}.run(t)
}

// backupOfARealServer takes a backup, changes something, and restores it.
func backupOfARealServer(t *testing.T) {
	t.Helper()
	step{"", "backup weft.backup", 0, []string{"weft.backup: "}}.run(t)
	step{"", "delete retry patient", 0, nil}.run(t)
	step{"", "restore weft.backup --yes", 0, []string{"restored: epoch "}}.run(t)
	step{"", "get rules retry -o name", 0, []string{"retry/patient"}}.run(t)
}

// TestWatchARealServer sees a change that another command makes.
func TestWatchARealServer(t *testing.T) {
	start(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	lines := make(chan string, 100)
	done := make(chan int, 1)
	var errs strings.Builder
	go func() {
		out := writer(func(p []byte) (int, error) {
			lines <- string(p)
			return len(p), nil
		})
		done <- run(ctx, []string{"watch", "--service", "product"}, world{strings.NewReader(""), out, &errs, time.Now})
	}()
	// The watch begins at the moment it is opened, which is not seen from here: change until it is noticed.
	for n := 0; ; n++ {
		put(t, "p"+string(rune('a'+n%26)), `{"address": "127.0.0.1:9001", "protocol": "http"}`)
		select {
		case line := <-lines:
			if !strings.Contains(line, "instance  product/p") || !strings.Contains(line, "up, weight 100, 127.0.0.1:9001") {
				t.Error(line)
			}
			cancel()
			if code := <-done; code != 0 {
				t.Error(code, errs.String())
			}
			return
		case code := <-done:
			t.Fatal(code, errs.String())
		case <-time.After(100 * time.Millisecond):
		}
		if n == 25 {
			t.Fatal("nothing is seen of 26 changes")
		}
	}
}
