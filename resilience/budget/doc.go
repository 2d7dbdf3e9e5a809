// Package budget bounds how many retries and hedges a process adds to the calls it makes to one service, so that
// a service in trouble gets little more than its usual load: the larger of a percentage of the calls and a fixed
// number a second, with at most one second's worth stored.
//
//	b := budget.New(budget.Default()) // 10 % of calls or 3 a second
//	b.Deposit(time.Now())             // once for each call, when it is sent
//	if b.Withdraw(time.Now()) {       // once for each retry
//		… try again …
//	}
//
// The budget holds no clock and no goroutine: the time comes with each call, so the same code runs in production
// and in simulations.
package budget
