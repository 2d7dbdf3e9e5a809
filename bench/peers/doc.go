// Package peers holds the registry server against etcd, and against a bare grpc-go fan-out, in one run on one machine:
// each a process of its own, with its data on the same disk. It has tests alone.
//
//	go -C bench/peers test -v .                        # does the harness work? 10 s, once the servers are built
//	WEFT_PROVE=ci go -C bench/peers test -v .          # small: about a minute
//	WEFT_PROVE=full go -C bench/peers test -v -timeout 60m .
//
// Each test prints a table. The full run holds the figures to the ratios that are promised; the small one to looser
// bounds, which a machine that does other things at the same time keeps too: 64 writers for 0.3 s a round instead of 3,
// 500 sessions instead of 5,000, 5,000 instances instead of 100,000.
//
// The module is nested so that no user of Weft inherits the requirements of etcd. Consul is measured too when WEFT_CONSUL
// names its binary.
package peers
