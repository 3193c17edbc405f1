"""Train GSMFlow on Animals with Attributes 2 (AWA2).

50 animals, 10 of them unseen; 85 attributes.
"""

from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, run

# Published hyperparameters, for ResNet-101 features. The published code does not scale the
# semantics (--semantics-scaling none); here they are scaled to mean length 20 by default.
RES101 = Recipe(
    dataset="AWA2",
    feature_scaling="minmax",  # to [0, 1] over the training rows
    method=GSMFlowConfig(
        blocks=3,  # coupling blocks
        pi=0.15,  # standard deviation of the visual perturbation
        prototype_weight=10.0,  # lambda, the weight of the prototype loss
        samples_per_class=50000,  # synthesized features per unseen class
    ),
    training=TrainingConfig(
        epochs=500,  # passes over the training rows
        batch_size=256,  # rows per step
        learning_rate=3e-4,  # Adam's, at the start
        weight_decay=3e-6,  # Adam's L2 penalty
        lr_decay=0.92,  # factor on the learning rate every 15 epochs
        fast_epochs=20,  # passes over the training rows under --schedule fast
        fast_learning_rate=6e-4,  # Adam's at its highest, under --schedule fast
    ),
    classifier=SoftmaxConfig(
        lr=1e-3,  # Adam's, of the softmax classifier
        batch_size=1200,  # rows per step of the classifier
        epochs=30,  # passes over real seen and synthesized unseen rows
    ),
)

if __name__ == "__main__":
    run({"res101": RES101}, GSMFlow)
