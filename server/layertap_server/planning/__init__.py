"""Planning: selectors, planner, cache of compiled plans and response cache."""
