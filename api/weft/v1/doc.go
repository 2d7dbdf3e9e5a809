// Package weftv1 is the protocol between an SDK process and the registry server, generated from session.proto:
// one bidirectional stream a process, on which it subscribes to services, registers its instances, keeps them
// alive and acknowledges what it has applied.
//
//	stream, err := weftv1.NewSessionServiceClient(conn).Connect(ctx)
//	…
//	err = stream.Send(&weftv1.ConnectRequest{Message: &weftv1.ConnectRequest_Hello{Hello: &weftv1.Hello{Process: id}}})
//
// The client end is internal/session, the server end internal/registry/session.
package weftv1

//go:generate go -C ../../../tools run ./protogen
