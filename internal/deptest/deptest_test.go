package deptest

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/weftmesh/weft"

// pkg is what the go command says of a package.
type pkg struct {
	ImportPath string
	Dir        string
	Doc        string
	Name       string
	GoFiles    []string
	Imports    []string
	Deps       []string
	Standard   bool
}

// load reads the packages of the module and all they depend on, test files left out.
var load = sync.OnceValues(func() (map[string]*pkg, error) {
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Dir,Doc,Name,GoFiles,Imports,Deps,Standard", module+"/...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, errors.New(err.Error() + ": " + stderr.String())
	}
	all := map[string]*pkg{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := dec.Decode(p); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all[p.ImportPath] = p
	}
})

func packages(t *testing.T) map[string]*pkg {
	t.Helper()
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func ours(all map[string]*pkg) (list []*pkg) {
	for path, p := range all {
		if path == module || strings.HasPrefix(path, module+"/") {
			list = append(list, p)
		}
	}
	return list
}

func folder(path string) string {
	return strings.TrimPrefix(strings.TrimPrefix(path, module), "/")
}

// roomOf finds the innermost room of a folder.
func roomOf(rooms []room, folder string) *room {
	var best *room
	for i := range rooms {
		r := &rooms[i]
		inside := folder == r.folder || r.folder != "" && strings.HasPrefix(folder, r.folder+"/")
		if inside && (best == nil || len(r.folder) > len(best.folder)) {
			best = r
		}
	}
	return best
}

// absolute turns a path of the table into an import path.
func absolute(path string) string {
	first, _, _ := strings.Cut(path, "/")
	switch {
	case path == ".":
		return module
	case strings.Contains(first, ".") && path != "." || isStd(path):
		return path
	}
	return module + "/" + path
}

func isStd(path string) bool { return path == "net/http" }

func covers(pattern, path string) bool {
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		base = absolute(base)
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == absolute(pattern)
}

// violations compares one package with its room.
func violations(rooms []room, all map[string]*pkg, p *pkg) (list []string) {
	r := roomOf(rooms, folder(p.ImportPath))
	if r == nil {
		return []string{p.ImportPath + " belongs to no room: add it to the table, with what it may import"}
	}
	may := strings.Fields(r.may)
	for _, imp := range p.Imports {
		if dep := all[imp]; dep == nil || dep.Standard || within(r, imp) {
			continue
		}
		if !slices.ContainsFunc(may, func(m string) bool { return covers(m, imp) }) {
			list = append(list, p.ImportPath+" imports "+imp+", which is not in the list of "+r.folder)
		}
	}
	for _, b := range r.never {
		for _, dep := range p.Deps {
			if banned(b, r, all[dep], dep) {
				list = append(list, p.ImportPath+" must never depend on "+dep+": "+b.reason)
			}
		}
	}
	return list
}

// within lets the packages below a room's own folder import each other where siblings are one thing.
func within(r *room, imp string) bool {
	return r.folder != "" && r.folder != "resilience" && strings.HasPrefix(imp, module+"/"+r.folder+"/")
}

func banned(b ban, r *room, dep *pkg, path string) bool {
	if b.path == "" {
		return dep != nil && !dep.Standard && !strings.HasPrefix(path, module+"/"+r.folder)
	}
	target := absolute(b.path)
	return path == target || strings.HasPrefix(path, target+"/")
}

func TestTheHouse(t *testing.T) {
	all := packages(t)
	for _, p := range ours(all) {
		for _, v := range violations(house, all, p) {
			t.Error(v)
		}
	}
}

// Control: a house that allows less must find fault with what is there.
func TestTheCheckCanFail(t *testing.T) {
	all := packages(t)
	engine := all[module+"/internal/engine"]
	for name, rooms := range map[string][]room{
		"an import that is not listed": {{folder: "internal/engine", may: "routing"}},
		"a transitive ban":             {{folder: "internal/engine", may: "routing balancer telemetry resilience/...", never: []ban{{"balancer", "control"}}}},
		"a ban of the standard library": {{folder: "internal/engine", may: "routing balancer telemetry resilience/...",
			never: []ban{stdOnly}}},
		"no room": {{folder: "elsewhere"}},
	} {
		if len(violations(rooms, all, engine)) == 0 {
			t.Errorf("%s: nothing found", name)
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range ours(packages(t)) {
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = ""
		}
		if p.Doc == "" || !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: its doc is %q, want one that begins with %q", p.ImportPath, p.Doc, want)
		}
	}
}

// One init is allowed: grpc finds balancers by name in a global table and offers no other door.
func TestNoInit(t *testing.T) {
	for _, p := range ours(packages(t)) {
		for _, file := range p.GoFiles {
			if strings.HasSuffix(file, ".pb.go") || p.Name == "main" {
				continue
			}
			if n := inits(t, filepath.Join(p.Dir, file)); n > 0 && folder(p.ImportPath) != "internal/grpcweft" {
				t.Errorf("%s/%s has an init", p.ImportPath, file)
			}
		}
	}
}

func inits(t *testing.T, file string) (n int) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			n++
		}
	}
	return n
}
