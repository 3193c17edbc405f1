"""The models and their settings, for the ``train_*.py`` recipes.

``GSMFlow`` with ``GSMFlowConfig`` lives in `gsmflow.methods.gsmflow`, ``CADAVAE`` with
``CADAVAEConfig`` in `gsmflow.methods.cada_vae`.
"""

from gsmflow.core.console import importing

with importing():
    from gsmflow.methods.cada_vae import CADAVAE, CADAVAEConfig
    from gsmflow.methods.gsmflow import GSMFlow, GSMFlowConfig

__all__ = ["CADAVAE", "CADAVAEConfig", "GSMFlow", "GSMFlowConfig"]
