// Package retry decides whether a failed attempt is tried again, and when.
//
// Only what is safe to repeat is repeated: an attempt that was provably not sent, or a failure worth a retry of a
// call that may be made twice. Retries end with the attempts, the time left, or the budget that all calls to a
// service share.
//
//	err := retry.Do(ctx, &retry.Policy{}, budget, func(ctx context.Context, attempt int) error {
//		resp, err := fetch(ctx)
//		if err != nil {
//			return retry.Retryable(err) // reading twice does no harm
//		}
//		…
//	})
//
// [Policy.Next] is the decision alone, for callers with a loop of their own; it holds no clock.
package retry
