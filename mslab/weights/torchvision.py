"""What torchvision publishes of ResNet: a row is name, file, top-1, crop/resize, MiB.

Source: torchvision 0.29.1, torchvision/models/resnet.py, the enums ResNet18_Weights to ResNet152_Weights: url, acc@1 on
ImageNet-1K, _file_size, and the transforms (ImageClassification: resize_size 256 unless given, bilinear, ImageNet's
mean and std). The last of a network is its DEFAULT. Licence: the code's is BSD-3-Clause; of the weights its README
says: "may have their own licenses or terms and conditions derived from the dataset used for training".
"""

ADDRESS = "https://download.pytorch.org/models/"
LICENCE = "BSD-3-Clause (code)"
ROWS = """
resnet18.IMAGENET1K_V1    resnet18-f37072fd.pth   69.758 224/256 44.661
resnet34.IMAGENET1K_V1    resnet34-b627a593.pth   73.314 224/256 83.275
resnet50.IMAGENET1K_V1    resnet50-0676ba61.pth   76.130 224/256 97.781
resnet50.IMAGENET1K_V2    resnet50-11ad3fa6.pth   80.858 224/232 97.79
resnet101.IMAGENET1K_V1   resnet101-63fe2227.pth  77.374 224/256 170.511
resnet101.IMAGENET1K_V2   resnet101-cd907fc2.pth  81.886 224/232 170.53
resnet152.IMAGENET1K_V1   resnet152-394f9c45.pth  78.312 224/256 230.434
resnet152.IMAGENET1K_V2   resnet152-f82ba261.pth  82.284 224/232 230.474
"""
