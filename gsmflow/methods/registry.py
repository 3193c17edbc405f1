"""The registry of methods: module of each name that ``--model`` takes, imported when needed."""

from collections.abc import Mapping
from importlib import import_module

from gsmflow.learning.method import Method

__all__ = ["METHODS", "RECOMMENDED", "find_method"]

METHODS: Mapping[str, str] = {
    "gsmflow": "gsmflow.methods.gsmflow",
    "cada-vae": "gsmflow.methods.cada_vae",
    "discriminant": "gsmflow.methods.prototype_discriminant",
    "gaussian-prototypes": "gsmflow.methods.gaussian_prototypes",
    "eszsl": "gsmflow.methods.eszsl",
    "cn-zsl": "gsmflow.methods.cn_zsl",
    "dem": "gsmflow.methods.dem",
    "revise": "gsmflow.methods.revise",
    "devise": "gsmflow.methods.devise",
    "sje": "gsmflow.methods.sje",
    "ale": "gsmflow.methods.ale",
    "ale-ce": "gsmflow.methods.ale_ce",
    "latem": "gsmflow.methods.latem",
    "sae": "gsmflow.methods.sae",
    "gfzsl": "gsmflow.methods.gfzsl",
    "clip-prompts": "gsmflow.methods.clip_prompts",
    "conse": "gsmflow.methods.conse",
    "costa": "gsmflow.methods.costa",
    "sync": "gsmflow.methods.sync",
    "exem": "gsmflow.methods.exem",
    "exem-sync": "gsmflow.methods.exem_sync",
    "dap": "gsmflow.methods.dap",
    "iap": "gsmflow.methods.iap",
    "cmt": "gsmflow.methods.cmt",
    "cmt-star": "gsmflow.methods.cmt_star",
    "cmt-loop": "gsmflow.methods.cmt_loop",
    "cvae": "gsmflow.methods.cvae_zsl",
    "se-gzsl": "gsmflow.methods.se_gzsl",
    "gdan": "gsmflow.methods.gdan",
    "f-clswgan": "gsmflow.methods.f_clswgan",
    "gsmflow-journal": "gsmflow.methods.gsmflow_journal",
    "f-vaegan": "gsmflow.methods.f_vaegan",
    "tf-vaegan": "gsmflow.methods.tf_vaegan",
    "sdgzsl": "gsmflow.methods.sdgzsl",
    "izf": "gsmflow.methods.izf",
    "ce-gzsl": "gsmflow.methods.ce_gzsl",
    "free": "gsmflow.methods.free",
}

# The method with the best results on the validation classes of all datasets (docs/beyond.md).
RECOMMENDED = "discriminant"


def find_method(name: str) -> Method:
    """The method of this name, one of `METHODS`."""
    method = import_module(METHODS[name]).METHOD
    assert isinstance(method, Method)
    return method
