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
F_VAEGAN = f"{VAEGAN} epochs samples_per_class classifier_lr"
TF_VAEGAN = f"""{VAEGAN} decoder_weight feedback_weight feedback_weight_in_synthesis
    decoder_frozen epochs samples_per_class classifier_lr decoder_rate_factor
    feedback_rate_factor"""
FREE = f"""{VAEGAN} epochs critic_steps batch_size centre_margin centre_balance
    refinement_weight samples_per_class classifier_lr"""
SDGZSL = """relation_weight correlation_weight discriminator_weight semantic_dim residual_dim
    learning_rate weight_decay encoder_dropout decoder_dropout autoencoder_dropout
    correlation_steps samples_per_class classifier_lr classifier_batch_size classifier_epochs
    epochs kl_rise correlation_rise"""
JOURNAL = """relation_batch_size relation_weight_decay relation_lr augment_rate augment_steps
    augment_entropy learning_rate batch_size weight_decay lr_decay blocks prototype_weight pi
    classifier_lr classifier_batch_size classifier_epochs samples_per_class"""
CADA_VAE = """learning_rate batch_size amsgrad latents_seen latents_unseen latents_zsl
    classifier_lr classifier_batch_size"""

GDAN = """batch_size learning_rate weight_decay latent_dim encoder_dropout discriminator_hidden
    regressor_hidden cycle_weight regression_weight dual_weight samples_per_class"""

# The names of some settings, and their values for datasets. An epoch of FREE's script has two
# passes over the rows, which are two epochs here. A step of SDGZSL is one of its script with the
# discriminator and two or three without: its script has three or four times the epochs. Its rises
# are those of the script in an epoch, times the script's epochs. The learning rates of TF-VAEGAN's
# decoder and feedback are multiples of the others' here.
TABLES: dict[str, tuple[str, dict[str, tuple[Any, ...]]]] = {
    "f-clswgan": (
        F_CLSWGAN,
        {
            "AWA1": (1e-5, 30, 1800, 0.01),
            "AWA2": (1e-5, 30, 1800, 0.01),
            "CUB": (1e-4, 56, 300, 0.01),
            "SUN": (2e-4, 40, 400, 0.01),
            "FLO": (1e-4, 80, 1200, 0.1),
            "APY": (1e-5, 50, 1800, 0.01),
        },
    ),
    "f-vaegan": (
        F_VAEGAN,
        {
            "AWA1": (10, 10, 1e-5, True, 120, 1800, 1e-3),
            "AWA2": (10, 10, 1e-5, True, 120, 1800, 1e-3),
            "CUB": (10, 10, 1e-4, True, 300, 300, 1e-3),
            "FLO": (10, 10, 1e-4, False, 500, 1200, 1e-3),
            "SUN": (1, 1, 1e-3, True, 400, 400, 5e-4),
            "APY": (10, 10, 1e-4, False, 500, 1200, 1e-3),
        },
    ),
    "tf-vaegan": (
        TF_VAEGAN,
        {
            "AWA1": (10, 10, 1e-5, True, 0.1, 0.01, 0.01, True, 120, 1800, 1e-3, 10, 10),
            "AWA2": (10, 10, 1e-5, True, 0.1, 0.01, 0.01, True, 120, 1800, 1e-3, 10, 10),
            "CUB": (10, 10, 1e-4, True, 0.01, 1, 1, False, 300, 300, 1e-3, 1, 0.1),
            "FLO": (10, 10, 1e-4, False, 0.01, 0.5, 0.5, False, 500, 1200, 1e-3, 1, 0.1),
            "SUN": (1, 1, 1e-3, True, 0.01, 0.1, 0.01, False, 400, 400, 5e-4, 0.1, 0.1),
            "APY": (10, 10, 1e-4, False, 0.01, 0.5, 0.5, False, 500, 1200, 1e-3, 1, 0.1),
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
            "APY": (10, 10, 1e-5, False, 800, 1, 64, 50, 0.5, 1e-3, 400, 1e-3),
        },
    ),
    "sdgzsl": (
        SDGZSL,
        {
            "APY": (
                *(0.1, 1, 1, 128, 128, 1e-4, 1e-6, 0.4, 0.5, 0.2, 2, 1200, 5e-3, 1200, 20),
                *(133, 8.0, 0.4),
            ),
            "AWA2": (
                *(0.5, 1, 0.3, 1024, 1024, 3e-5, 1e-6, 0.4, 0.5, 0.2, 2, 5000, 3e-3, 5000, 50),
                *(73, 2.2, 0.22),
            ),
            "CUB": (
                *(5, 3e-3, 0.3, 2048, 2048, 1e-4, 1e-8, 0.1, 0.1, 0, 3, 1000, 2e-3, 1000, 50),
                *(150, 0.6, 0.06),
            ),
            "FLO": (
                *(3, 0.1, 0.1, 2048, 2048, 1e-4, 1e-6, 0.4, 0.4, 0.2, 3, 1200, 3e-3, 1200, 50),
                *(100, 0.4, 0.4),
            ),
            "SUN": (
                *(30, 0.3, 0.5, 2048, 2048, 3e-4, 1e-6, 0.4, 0.2, 0.4, 3, 400, 1e-3, 400, 50),
                *(100, 0.4, 0.12),
            ),
        },
    ),
    "ce-gzsl": (
        "samples_per_class classifier_batch_size",
        {
            "AWA1": (1800, 1800),
            "AWA2": (2400, 2400),
            "CUB": (300, 300),
            "FLO": (600, 600),
            "SUN": (100, 100),
        },
    ),
    "cvae": (
        "epochs batch_size samples_per_class",
        {
            "AWA1": (30, 64, 400),
            "AWA2": (30, 64, 400),
            "CUB": (30, 64, 300),
            "SUN": (80, 256, 300),
        },
    ),
    "gdan": (
        GDAN,
        {
            "AWA2": (256, 1e-5, 0.01, 100, 0.3, 800, 512, 0.1, 0.1, 0.1, 500),
            "CUB": (128, 1e-5, 0.01, 100, 0.3, 800, 512, 0.1, 0.1, 0.1, 500),
            "SUN": (128, 1e-5, 0.01, 100, 0.3, 800, 512, 0.1, 0.1, 0.1, 500),
            "APY": (128, 1e-5, 0.01, 100, 0.3, 800, 512, 0.1, 0.1, 0.1, 500),
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

WGAN: dict[str, Any] = {
    "feature_scaling": "minmax",
    "hidden": 4096,
    "noise_dim": None,
    "penalty_weight": 10,
    "classifier_epochs": 25,
}
VAEGAN_EVERYWHERE = WGAN | {"adaptive_penalty": True, "output": "sigmoid"}

# Datasets, and the settings that are the same on all of them.
EVERYWHERE: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "f-clswgan": (
        ("AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"),
        {
            **WGAN,
            "adaptive_penalty": False,
            "output": "relu",
            "batch_size": 64,
            "critic_steps": 5,
            "seen_lr": 1e-3,
            "seen_batch_size": 100,
            "seen_epochs": 50,
            "classifier_lr": 1e-3,
        },
    ),
    "f-vaegan": (
        ("AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"),
        {**VAEGAN_EVERYWHERE, "batch_size": 64, "critic_steps": 5},
    ),
    "tf-vaegan": (
        ("AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"),
        {**VAEGAN_EVERYWHERE, "batch_size": 64, "critic_steps": 5},
    ),
    "free": (
        ("AWA1", "AWA2", "CUB", "SUN", "FLO", "APY"),
        {**VAEGAN_EVERYWHERE, "centre_weight": 0.5},
    ),
    "ce-gzsl": (
        ("AWA1", "AWA2", "CUB", "SUN", "FLO"),
        {
            **WGAN,
            "adaptive_penalty": False,
            "output": "relu",
            "critic_steps": 5,
            "embedding_dim": 2048,
            "direction_dim": 512,
            "comparator_hidden": 2048,
            "row_weight": 1e-3,
            "row_temperature": 0.1,
            "class_weight": 1e-3,
            "class_temperature": 0.1,
            "batch_size": 2048,
            "epochs": 2000,
            "learning_rate": 1e-4,
            "lr_decay": 0.99,
            "lr_decay_every": 100,
            "lr_decay_clock": "epochs",
        },
    ),
    "sdgzsl": (
        ("AWA2", "CUB", "SUN", "FLO", "APY"),
        {
            "latent_dim": 20,
            "hidden": 2048,
            "posterior_hidden": 128,
            "squashed_scores": True,
            "batch_size": 64,
        },
    ),
    "cvae": (
        ("AWA1", "AWA2", "CUB", "SUN"),
        {
            "latent_dim": None,
            "encoder_hidden": None,
            "encoder_dropout": 0.7,
            "decoder_hidden": 1024,
            "kl_weight": 1,
            "synthesized_seen": True,
            "learning_rate": 1e-3,
        },
    ),
    "se-gzsl": (
        ("AWA1", "AWA2", "CUB", "SUN", "APY"),
        {
            "latent_dim": 100,
            "encoder_hidden": 1024,
            "decoder_hidden": 1024,
            "regressor_hidden": 512,
            "kl_weight": 1,
            "regression_weight": 0.1,
            "feedback_weight": 0.2,
            "regeneration_weight": 0.1,
            "latent_weight": 0.1,
            "learning_rate": 1e-3,
            "batch_size": 50,
        },
    ),
    "gdan": (
        ("CUB", "SUN", "APY"),
        {
            "encoder_hidden": 1200,
            "encoder_second_hidden": 600,
            "decoder_hidden": 600,
            "decoder_relu": True,
        },
    ),
    "izf": (
        ("AWA1", "AWA2", "CUB", "SUN"),
        {
            "blocks": 5,
            "hidden": None,
            "flow_weight": 2,
            "centre_weight": 1,
            "discrepancy_weight": 0.1,
            "samples_per_class": 300,
            "batch_size": 256,
            "epochs": 60,
            "weight_decay": 0.01,
            "lr_decay": 0.8,
            "lr_decay_every": 15,
            "lr_decay_clock": "epochs",
        },
    ),
}


@pytest.mark.parametrize(("model", "dataset"), CASES)
def test_settings_are_those_of_the_table(model: str, dataset: str) -> None:
    names, rows = TABLES[model]
    recipe = published_recipe(make_recipe(dataset=dataset), model)
    found = {name: setting_value(recipe, name) for name in names.split()}
    assert found == pytest.approx(dict(zip(names.split(), rows[dataset], strict=True)))


@pytest.mark.parametrize(
    ("model", "dataset"),
    [(model, data) for model, (sets, _) in EVERYWHERE.items() for data in sets],
)
def test_settings_that_do_not_depend_on_the_dataset(model: str, dataset: str) -> None:
    expected = EVERYWHERE[model][1]
    recipe = published_recipe(make_recipe(dataset=dataset), model)
    assert {name: setting_value(recipe, name) for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize("dataset", ["AWA1", "AWA2", "CUB", "SUN", "APY"])
def test_settings_are_within_the_described_ranges(dataset: str) -> None:
    izf, se_gzsl = (published_recipe(make_recipe(dataset=dataset), m) for m in ("izf", "se-gzsl"))
    assert 3e-4 <= izf.training.learning_rate <= 5e-4
    assert 200 <= se_gzsl.method.samples_per_class <= 500
    assert 20 <= se_gzsl.training.epochs * se_gzsl.method.pretraining <= 50


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
