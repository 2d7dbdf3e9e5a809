// Command protogen generates the Go code of Weft's protocol without protoc: it compiles the .proto files with
// protocompile and hands them to the two plugins that go.mod pins as tools.
//
//	go -C tools run ./protogen          # writes *.pb.go
//	go -C tools run ./protogen -check   # writes nothing; exit code 1 if a file is not what would be written
//
// It runs in the tools folder. The output depends on the sources and the pinned versions alone.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/types/pluginpb"
)

// roots are the folders of .proto files, seen from the tools folder; import paths start in them.
var roots = [...]string{"../api", "../examples"}

func main() {
	check := flag.Bool("check", false, "compare with the files on disk instead of writing them")
	flag.Parse()
	if err := run(context.Background(), *check); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, check bool) error {
	output := save
	if check {
		output = compare
	}
	var errs []error
	for _, root := range roots {
		errs = append(errs, runRoot(ctx, root, output))
	}
	return errors.Join(errs...)
}

// runRoot generates the code of one root and hands each file to output.
func runRoot(ctx context.Context, root string, output func(path string, content []byte) error) error {
	sources, err := protoFiles(root)
	if err != nil {
		return err
	}
	req, err := compile(ctx, root, sources)
	if err != nil {
		return err
	}
	var errs []error
	for _, plugin := range []string{"protoc-gen-go", "protoc-gen-go-grpc"} {
		files, err := generate(ctx, plugin, req)
		if err != nil {
			return err
		}
		for _, f := range files {
			errs = append(errs, output(filepath.Join(root, f.GetName()), []byte(f.GetContent())))
		}
	}
	return errors.Join(errs...)
}

// protoFiles lists the .proto files below a root, in order, relative to it.
func protoFiles(root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(root, "*", "*", "*.proto"))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no .proto file below %s: run it in the tools folder", root)
	}
	for i, f := range found {
		if found[i], err = filepath.Rel(root, f); err != nil {
			return nil, err
		}
		found[i] = filepath.ToSlash(found[i])
	}
	return found, nil
}

func compile(ctx context.Context, root string, sources []string) (*pluginpb.CodeGeneratorRequest, error) {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{root}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // comments become doc comments
	}
	files, err := compiler.Compile(ctx, sources...)
	if err != nil {
		return nil, err
	}
	req := &pluginpb.CodeGeneratorRequest{
		FileToGenerate: sources,
		Parameter:      proto.String("paths=source_relative"),
	}
	for _, f := range files {
		req.ProtoFile = append(req.ProtoFile, protodesc.ToFileDescriptorProto(f))
	}
	return req, complete(root, req)
}

// complete reports an import that a plugin would miss. The protocol imports nothing today.
func complete(root string, req *pluginpb.CodeGeneratorRequest) error {
	have := make(map[string]bool)
	for _, f := range req.ProtoFile {
		have[f.GetName()] = true
	}
	for _, f := range req.ProtoFile {
		for _, dep := range f.GetDependency() {
			if !have[dep] {
				return fmt.Errorf("%s imports %s, which is not below %s", f.GetName(), dep, root)
			}
		}
	}
	return nil
}

// generate runs one plugin.
func generate(ctx context.Context, plugin string, req *pluginpb.CodeGeneratorRequest) ([]*pluginpb.CodeGeneratorResponse_File, error) {
	in, err := proto.MarshalOptions{Deterministic: true}.Marshal(req)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "tool", plugin)
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool %s: %w", plugin, err)
	}
	var resp pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out, &resp); err != nil {
		return nil, fmt.Errorf("go tool %s: unreadable answer: %w", plugin, err)
	}
	if resp.Error != nil {
		return nil, fmt.Errorf("go tool %s: %s", plugin, resp.GetError())
	}
	return resp.GetFile(), nil
}

func save(path string, content []byte) error {
	return os.WriteFile(path, content, 0o644)
}

func compare(path string, want []byte) error {
	got, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%s is not what its sources generate: run \"make generate\" and commit the result", path)
	}
	return nil
}
