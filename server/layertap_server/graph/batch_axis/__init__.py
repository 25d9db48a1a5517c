"""Static analysis of which layers mix the images of a batch.

The walk tracks the batch axis of every tensor that depends on the images: its index, and the sizes that are merged with
it. A node that computes along other axes keeps images independent; a node that computes along the batch axis mixes
them. A table holds one rule for each family of operators. Layers after an operator without a rule are undecided, and
the server runs each request for them alone.
"""

from layertap_server.graph.batch_axis.facts import APART, Fact, Mixing, Verdict, worst
from layertap_server.graph.batch_axis.flow import facts_of, mixing_of

__all__ = ["APART", "Fact", "Mixing", "Verdict", "facts_of", "mixing_of", "worst"]
