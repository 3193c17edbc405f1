"""Published settings against the tables of the papers and the scripts of their authors.

A mistyped number changes no test on small data, which has settings of its own.
"""

from typing import Any

import pytest

from gsmflow.recipes.flags import published_recipe
from gsmflow.recipes.recipe import setting_value
from tests.builders import make_recipe

F_CLSWGAN = "learning_rate epochs samples_per_class classification_weight"
VAEGAN = "critic_weight adversarial_weight learning_rate encoded_noise"
TF_VAEGAN = f"""{VAEGAN} decoder_weight feedback_weight feedback_weight_in_synthesis
    decoder_frozen epochs samples_per_class classifier_lr"""
FREE = f"""{VAEGAN} epochs critic_steps batch_size centre_margin centre_balance
    refinement_weight samples_per_class classifier_lr"""
SDGZSL = """relation_weight correlation_weight discriminator_weight semantic_dim residual_dim
    learning_rate weight_decay encoder_dropout decoder_dropout autoencoder_dropout
    correlation_steps samples_per_class classifier_lr classifier_batch_size classifier_epochs"""
JOURNAL = """relation_batch_size relation_weight_decay relation_lr augment_rate augment_steps
    augment_entropy learning_rate batch_size weight_decay lr_decay blocks prototype_weight pi
    classifier_lr classifier_batch_size classifier_epochs samples_per_class"""
CADA_VAE = """learning_rate batch_size amsgrad latents_seen latents_unseen latents_zsl
    classifier_lr classifier_batch_size"""

# The names of some settings, and their values for datasets. An epoch of FREE's script has two
# passes over the rows, which are two epochs here.
TABLES: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "f-clswgan": (
        F_CLSWGAN,
        {
            "AWA1": (1e-5, 30, 1800, 0.01),
            "AWA2": (1e-5, 30, 1800, 0.01),
            "CUB": (1e-4, 56, 300, 0.01),
            "SUN": (2e-4, 40, 400, 0.01),
            "FLO": (1e-4, 80, 1200, 0.1),
        },
    ),
    "tf-vaegan": (
        TF_VAEGAN,
        {
            "AWA1": (10, 10, 1e-5, True, 0.1, 0.01, 0.01, True, 120, 1800, 1e-3),
            "AWA2": (10, 10, 1e-5, True, 0.1, 0.01, 0.01, True, 120, 1800, 1e-3),
            "CUB": (10, 10, 1e-4, True, 0.01, 1, 1, False, 300, 300, 1e-3),
            "FLO": (10, 10, 1e-4, False, 0.01, 0.5, 0.5, False, 500, 1200, 1e-3),
            "SUN": (1, 1, 1e-3, True, 0.01, 0.1, 0.01, False, 400, 400, 5e-4),
        },
    ),
    "free": (
        FREE,
        {
            "AWA1": (10, 10, 1e-5, True, 600, 1, 64, 50, 0.1, 1e-3, 4600, 1e-3),
            "AWA2": (10, 10, 1e-5, True, 800, 1, 64, 50, 0.5, 1e-3, 4600, 1e-3),
            "CUB": (10, 10, 1e-4, True, 1000, 1, 64, 200, 0.8, 1e-3, 700, 1e-3),
            "FLO": (10, 10, 1e-4, False, 1000, 5, 256, 200, 0.8, 1e-3, 2400, 1e-3),
            "SUN": (1, 1, 2e-4, True, 1200, 1, 512, 120, 0.8, 0.1, 300, 5e-4),
        },
    ),
    "sdgzsl": (
        SDGZSL,
        {
            "APY": (0.1, 1, 1, 128, 128, 1e-4, 1e-6, 0.4, 0.5, 0.2, 2, 1200, 5e-3, 1200, 20),
            "AWA2": (0.5, 1, 0.3, 1024, 1024, 3e-5, 1e-6, 0.4, 0.5, 0.2, 2, 5000, 3e-3, 5000, 50),
            "CUB": (5, 3e-3, 0.3, 2048, 2048, 1e-4, 1e-8, 0.1, 0.1, 0, 3, 1000, 2e-3, 1000, 50),
            "FLO": (3, 0.1, 0.1, 2048, 2048, 1e-4, 1e-6, 0.4, 0.4, 0.2, 3, 1200, 3e-3, 1200, 50),
            "SUN": (30, 0.3, 0.5, 2048, 2048, 3e-4, 1e-6, 0.4, 0.2, 0.4, 3, 400, 1e-3, 400, 50),
        },
    ),
    "gsmflow-journal": (
        JOURNAL,
        {
            "APY": (
                *(200, 3e-6, 1e-3, 30, 20, 10, 3e-4, 200, 1e-5, 0.55, 5, 3, 0.02),
                *(1e-3, 1200, 20, 9000),
            ),
            "AWA2": (
                *(256, 3e-6, 3e-4, 100, 30, 20, 3e-4, 256, 3e-6, 0.92, 3, 10, 0.15),
                *(5e-3, 1200, 30, 50000),
            ),
            "CUB": (
                *(256, 1e-6, 1e-4, 20, 20, 10, 1e-4, 256, 3e-5, 0.8, 3, 1, 0.05),
                *(3e-3, 600, 50, 600),
            ),
            "FLO": (
                *(64, 1e-6, 3e-4, 20, 20, 1, 1e-4, 64, 1e-4, 0.8, 3, 3, 0.1),
                *(5e-3, 1000, 30, 3000),
            ),
        },
    ),
    "cada-vae": (
        CADA_VAE,
        dict.fromkeys(("SUN", "CUB", "AWA1", "AWA2"), (1.5e-4, 50, True, 200, 400, 200, 1e-3, 32)),
    ),
    "revise": (
        "learning_rate batch_size epochs margin sharpness",
        {"CUB": (1e-4, 1024, 300, 0.3, 32)},
    ),
}
CASES = [(model, data) for model, (_, rows) in TABLES.items() for data in rows]


@pytest.mark.parametrize(("model", "dataset"), CASES)
def test_settings_are_those_of_the_table(model: str, dataset: str) -> None:
    names, rows = TABLES[model]
    recipe = published_recipe(make_recipe(dataset=dataset), model)
    found = {name: setting_value(recipe, name) for name in names.split()}
    assert found == pytest.approx(dict(zip(names.split(), rows[dataset], strict=True)))


@pytest.mark.parametrize(
    ("dataset", "rows", "epochs", "relation_epochs", "decay"),
    [
        ("APY", 5932, 600, 50, 20),
        ("AWA2", 23527, 1000, 50, 17),
        ("CUB", 7057, 1500, 100, 25),
        ("FLO", 5631, 1000, 60, 30),
    ],
)
def test_journal_version_has_the_steps_of_the_script(
    dataset: str, rows: int, epochs: int, relation_epochs: int, decay: int
) -> None:
    """The script counts the steps of its batch size, also on FLO, where it takes 64 rows a step."""
    recipe = published_recipe(make_recipe(dataset=dataset), "gsmflow-journal")
    training, method = recipe.training, recipe.method
    size = 256 if dataset == "FLO" else training.batch_size
    steps = -(-rows // training.batch_size)
    assert training.epochs * steps == pytest.approx(epochs * (rows // size), rel=0.06)
    relation_steps = method.relation_epochs * -(-rows // method.relation_batch_size)
    assert relation_steps == pytest.approx(relation_epochs * (rows // size), rel=0.06)
    assert training.lr_decay_every * steps == pytest.approx(decay * -(-rows // size), rel=0.08)
