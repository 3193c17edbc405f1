"""Train GSMFlow on Caltech-UCSD Birds (CUB).

200 birds, 50 of them unseen; 1024-d sentence vectors (--semantics att: 312 attributes).
"""

from classifier import SoftmaxConfig
from model import GSMFlow, GSMFlowConfig
from util import Recipe, TrainingConfig, run

# Published hyperparameters, for ResNet-101 features. The published code does not scale the
# semantics (--semantics-scaling none); here they are scaled to mean length 20 by default.
RES101 = Recipe(
    dataset="CUB",
    semantics="sent",  # sent_splits.mat: sentence vectors; att: attributes
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
        fast_epochs=54,  # passes over the training rows under --schedule fast
        fast_learning_rate=6e-4,  # Adam's at its highest, under --schedule fast
    ),
    classifier=SoftmaxConfig(
        lr=1e-2,  # Adam's, of the softmax classifier
        batch_size=3000,  # rows per step of the classifier
        epochs=30,  # passes over real seen and synthesized unseen rows
    ),
)

# Chosen on the validation classes of the ImageNet class scores (docs/settings.md).
RESNET_LOGITS = RES101.replace(
    features="resnet_logits",
    feature_scaling="standardised",  # each dimension to mean 0 and standard deviation 1
    epochs=36,
    blocks=3,
    hidden=1024,  # hidden units of each coupling subnet
    pi=0.1,
    classifier_lr=2e-3,
    classifier_batch_size=1000,
    classifier_epochs=20,
)

if __name__ == "__main__":
    run({"res101": RES101, "resnet_logits": RESNET_LOGITS}, GSMFlow)
