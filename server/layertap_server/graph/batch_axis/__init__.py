"""Which layers mix the images of a batch, decided from the graph.

The walk follows the batch axis of every tensor that depends on the images: which axis it is, and what other sizes are
merged with it. A node that only works beside that axis leaves each image alone; one that computes along it mixes them.
Each family of operators has one rule in a table; an operator without a rule leaves the layers after it
undecided, and their requests run alone.
"""

from layertap_server.graph.batch_axis.facts import APART, Mixing, Verdict, worst
from layertap_server.graph.batch_axis.flow import facts_of, mixing_of

__all__ = ["APART", "Mixing", "Verdict", "facts_of", "mixing_of", "worst"]
