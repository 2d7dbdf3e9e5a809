package interop

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// interopCase is one of grpc-go's cases. It panics if the case fails; see loudLogger.
type interopCase struct {
	name string
	run  func(context.Context, *grpc.ClientConn)
}

// cases are all that grpc-go's own script runs but those about ORCA. The others need Google's credentials, and
// pick_first_unary, which asks for one server although a mesh balances over several, needs a server that names itself.
// A fresh connection is needed by the one that dials for each call.
func cases(fresh func() (*grpc.ClientConn, func())) []interopCase {
	return []interopCase{
		{"empty_unary", on(interop.DoEmptyUnaryCall)},
		{"large_unary", on(interop.DoLargeUnaryCall)},
		{"client_streaming", on(interop.DoClientStreaming)},
		{"server_streaming", on(interop.DoServerStreaming)},
		{"ping_pong", on(interop.DoPingPong)},
		{"empty_stream", on(interop.DoEmptyStream)},
		{"timeout_on_sleeping_server", on(interop.DoTimeoutOnSleepingServer)},
		{"cancel_after_begin", on(interop.DoCancelAfterBegin)},
		{"cancel_after_first_response", on(interop.DoCancelAfterFirstResponse)},
		{"status_code_and_message", on(interop.DoStatusCodeAndMessage)},
		{"special_status_message", on(interop.DoSpecialStatusMessage)},
		{"custom_metadata", on(interop.DoCustomMetadata)},
		{"unimplemented_method", interop.DoUnimplementedMethod},
		{"unimplemented_service", func(ctx context.Context, cc *grpc.ClientConn) {
			interop.DoUnimplementedService(ctx, testpb.NewUnimplementedServiceClient(cc))
		}},
		{"rpc_soak", func(ctx context.Context, cc *grpc.ClientConn) {
			soak(ctx, func() (*grpc.ClientConn, func()) { return cc, func() {} })
		}},
		{"channel_soak", func(ctx context.Context, _ *grpc.ClientConn) { soak(ctx, fresh) }},
	}
}

// on gives the connection to a case that wants a client.
func on(do func(context.Context, testpb.TestServiceClient, ...grpc.CallOption)) func(context.Context, *grpc.ClientConn) {
	return func(ctx context.Context, cc *grpc.ClientConn) { do(ctx, testpb.NewTestServiceClient(cc)) }
}

// soak has the numbers of grpc-go's script but for the latency it accepts, as nothing here asserts speed.
func soak(ctx context.Context, channel func() (*grpc.ClientConn, func())) {
	interop.DoSoakTest(ctx, interop.SoakTestConfig{
		RequestSize:                      271828,
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: time.Minute,
		OverallTimeout:                   time.Minute,
		NumWorkers:                       2,
		Iterations:                       10,
		ChannelForTest:                   channel,
	})
}
