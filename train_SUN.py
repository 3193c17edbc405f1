"""Train GSMFlow on the SUN Attribute dataset (SUN).

717 scenes, 72 of them unseen; 102 attributes.
"""

from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, run

# No hyperparameters are published for SUN: these are CUB's, for ResNet-101 features.
RES101 = Recipe(
    dataset="SUN",
    feature_scaling="none",  # unscaled (pi is in raw units)
    method=GSMFlowConfig(
        blocks=5,  # coupling blocks
        pi=0.05,  # standard deviation of the visual perturbation
        prototype_weight=1.0,  # lambda, the weight of the prototype loss
        samples_per_class=600,  # synthesized features per unseen class
    ),
    training=TrainingConfig(
        epochs=600,  # passes over the training rows
        batch_size=256,  # rows per step
        learning_rate=3e-4,  # Adam's, at the start
        weight_decay=1e-5,  # Adam's L2 penalty
        lr_decay=0.8,  # factor on the learning rate every 15 epochs
        fast_epochs=24,  # passes over the training rows under --schedule fast
        fast_learning_rate=6e-4,  # Adam's at its highest, under --schedule fast
    ),
    classifier=SoftmaxConfig(
        lr=1e-2,  # Adam's, of the softmax classifier
        batch_size=3000,  # rows per step of the classifier
        epochs=30,  # passes over real seen and synthesized unseen rows
    ),
)

if __name__ == "__main__":
    run({"res101": RES101}, GSMFlow)
