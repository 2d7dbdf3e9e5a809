// Package interop runs the interoperability cases that grpc-go brings along (google.golang.org/grpc/interop) through a
// Weft connection: whatever gRPC promises its users must hold with Weft in between.
//
// It is a module of its own, as the cases need modules that no user of Weft should inherit.
package interop
