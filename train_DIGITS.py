"""Train GSMFlow on digit pairs, the built-in dataset: two-digit numbers in real handwriting."""

from model import GSMFlow
from util import Recipe, run

RECIPE = Recipe(
    dataset="DIGITS",
    blocks=3,
    hidden=512,
    condition_dim=256,
    epochs=60,
    samples_per_class=100,
    prototype_weight=1.0,
    pi=0.1,
)

if __name__ == "__main__":
    run({"pixels": RECIPE}, GSMFlow)
