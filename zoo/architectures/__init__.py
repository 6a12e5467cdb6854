"""Architectures of different sizes, in one place: what can be built, trained or loaded by name."""

from zoo.architectures.cifar_resnet import (
    CIFAR10_CLASSES,
    CIFAR_RESNET_PREPROCESSING,
    DEPTHS,
    CifarResNet,
    load_npz,
)
from zoo.architectures.convnet import CONVNETS, ConvNet, convnet
from zoo.architectures.efficientnet_lite import efficientnet_lite
from zoo.architectures.timm_models import timm_model
from zoo.architectures.torchvision_models import torchvision_model

__all__ = [
    "CIFAR10_CLASSES",
    "CIFAR_RESNET_PREPROCESSING",
    "CONVNETS",
    "DEPTHS",
    "CifarResNet",
    "ConvNet",
    "convnet",
    "efficientnet_lite",
    "load_npz",
    "timm_model",
    "torchvision_model",
]
