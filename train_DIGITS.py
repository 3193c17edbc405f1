"""Train GSMFlow on digit pairs, the built-in dataset: two-digit numbers in real handwriting.

100 numbers, 20 of them unseen; 20 one-hot attributes, the tens digit and the units digit.
"""

from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, draw_digit_pairs, run

# Chosen on the validation classes.
PIXELS = Recipe(
    dataset="DIGITS",
    feature_scaling="none",  # pixels are in [0, 1]
    method=GSMFlowConfig(
        blocks=3,  # coupling blocks
        hidden=512,  # hidden units of each coupling subnet
        condition_dim=256,  # length of the relatively positioned condition
        semantics_scaling="none",  # one-hot digits, of length sqrt(2)
        pi=0.1,  # standard deviation of the visual perturbation
        prototype_weight=1.0,  # lambda, the weight of the prototype loss
        samples_per_class=600,  # synthesized features per unseen class
    ),
    training=TrainingConfig(
        epochs=20,  # passes over the training rows
        batch_size=256,  # rows per step
        learning_rate=3e-4,  # Adam's, at the start
        weight_decay=1e-5,  # Adam's L2 penalty
        lr_decay=0.8,  # factor on the learning rate every 15 epochs
    ),
    classifier=SoftmaxConfig(
        lr=5e-3,  # Adam's, of the softmax classifier
        batch_size=100,  # rows per step of the classifier
        epochs=30,  # passes over real seen and synthesized unseen rows
    ),
)

if __name__ == "__main__":
    run({"pixels": PIXELS}, GSMFlow, draw_digit_pairs)
