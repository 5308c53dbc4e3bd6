"""The front door: what a user types becomes a checked configuration, or one short message.

Constructor signatures are the schema: a key is valid when the constructor that its node names takes it, a value when
it fits the annotation. Nothing is made before everything is checked.
"""

from gan_lightning.config.building import check_models, instantiate
from gan_lightning.config.checking import check, check_node
from gan_lightning.config.composition import CONF, compose, hydra_arguments, hydra_loader, sweep_jobs
from gan_lightning.config.continuing import completed, override
from gan_lightning.config.messages import ADVICE
from gan_lightning.config.overrides import as_typed, read_overrides
from gan_lightning.config.signatures import ALLOWED

__all__ = [
    "ADVICE",
    "ALLOWED",
    "CONF",
    "as_typed",
    "check",
    "check_models",
    "check_node",
    "completed",
    "compose",
    "hydra_arguments",
    "hydra_loader",
    "instantiate",
    "override",
    "read_overrides",
    "sweep_jobs",
]
