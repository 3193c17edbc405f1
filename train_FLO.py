"""Train GSMFlow on Oxford Flowers (FLO).

102 flowers, 20 of them unseen; 1024-d sentence vectors.
"""

from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, run

# Published hyperparameters, for ResNet-101 features. The published code does not scale the
# semantics (--semantics-scaling none); here they are scaled to mean length 20 by default.
RES101 = Recipe(
    dataset="FLO",
    feature_scaling="none",  # unscaled (pi is in raw units)
    method=GSMFlowConfig(
        blocks=5,  # coupling blocks
        pi=0.07,  # standard deviation of the visual perturbation
        prototype_weight=3.0,  # lambda, the weight of the prototype loss
        samples_per_class=3000,  # synthesized features per unseen class
    ),
    training=TrainingConfig(
        epochs=300,  # passes over the training rows
        batch_size=256,  # rows per step
        learning_rate=3e-4,  # Adam's, at the start
        weight_decay=1e-4,  # Adam's L2 penalty
        lr_decay=0.8,  # factor on the learning rate every 15 epochs
        fast_epochs=12,  # passes over the training rows under --schedule fast
        fast_learning_rate=6e-4,  # Adam's at its highest, under --schedule fast
    ),
    classifier=SoftmaxConfig(
        lr=5e-3,  # Adam's, of the softmax classifier
        batch_size=1000,  # rows per step of the classifier
        epochs=30,  # passes over real seen and synthesized unseen rows
    ),
)

# Chosen on the validation classes of the DenseNet-169 features (docs/settings.md).
DENSENET169 = RES101.replace(
    features="densenet169",
    epochs=8,
    blocks=3,
    hidden=1024,  # hidden units of each coupling subnet
    samples_per_class=300,
    classifier_lr=1e-3,
)

if __name__ == "__main__":
    run({"res101": RES101, "densenet169": DENSENET169}, GSMFlow)
