package balancer

// ByName returns a new policy by its name in rules: round_robin, weighted_round_robin, random or least_request.
func ByName(name string) (Policy, bool) {
	switch name {
	case "round_robin":
		return RoundRobin(), true
	case "weighted_round_robin":
		return WeightedRoundRobin(), true
	case "random":
		return Random(), true
	case "least_request":
		return LeastRequest(), true
	default:
		return nil, false
	}
}
