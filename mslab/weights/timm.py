"""What timm publishes of ResNet as files of its releases: a row is name, file, top-1, crop/resize, pixels of training.

Source: timm 1.0.31, timm/models/resnet.py, default_cfgs: url, input_size, test_input_size, test_crop_pct, bicubic,
ImageNet's mean and std, licence (apache-2.0). Left out: entries without a file of timm's releases, and networks with
another stem (resnet50d, …). Top-1 on ImageNet-1K at that crop: results/results-imagenet.csv of
github.com/huggingface/pytorch-image-models. The first of a network is what timm takes without a tag. Some addresses in
timm have the repository's earlier owner, rwightman; GitHub leads from there to this one.
"""

ADDRESS = "https://github.com/huggingface/pytorch-image-models/releases/download/"
LICENCE = "Apache-2.0"
ROWS = """
resnet18.a1_in1k   v0.1-rsb-weights/resnet18_a1_0-d63eafa0.pth    73.158 288/288 224
resnet18.a2_in1k   v0.1-rsb-weights/resnet18_a2_0-b61bd467.pth    72.372 288/288 224
resnet18.a3_in1k   v0.1-rsb-weights/resnet18_a3_0-40c531c8.pth    68.254 224/235 160
resnet34.a1_in1k   v0.1-rsb-weights/resnet34_a1_0-46f8f793.pth    77.918 288/288 224
resnet34.a2_in1k   v0.1-rsb-weights/resnet34_a2_0-82d47d71.pth    77.158 288/288 224
resnet34.a3_in1k   v0.1-rsb-weights/resnet34_a3_0-a20cabb6.pth    72.970 224/235 160
resnet34.bt_in1k   v0.1-weights/resnet34-43635321.pth             76.480 288/303 224
resnet50.a1_in1k   v0.1-rsb-weights/resnet50_a1_0-14fe96d1.pth    81.214 288/288 224
resnet50.a1h_in1k  v0.1-rsb-weights/resnet50_a1h2_176-001a1197.pth 80.676 224/224 176
resnet50.a2_in1k   v0.1-rsb-weights/resnet50_a2_0-a2746f79.pth    80.772 288/288 224
resnet50.a3_in1k   v0.1-rsb-weights/resnet50_a3_0-59cae1ef.pth    78.048 224/235 160
resnet50.b1k_in1k  v0.1-rsb-weights/resnet50_b1k-532a802a.pth     80.706 288/288 224
resnet50.b2k_in1k  v0.1-rsb-weights/resnet50_b2k-1ba180c1.pth     80.454 288/288 224
resnet50.c1_in1k   v0.1-rsb-weights/resnet50_c1-5ba5e060.pth      80.912 288/288 224
resnet50.c2_in1k   v0.1-rsb-weights/resnet50_c2-d01e05b2.pth      80.870 288/288 224
resnet50.d_in1k    v0.1-rsb-weights/resnet50_d-f39db8af.pth       80.972 288/288 224
resnet50.ram_in1k  v0.1-weights/resnet50_ram-a26f946b.pth         79.976 288/303 224
resnet50.am_in1k   v0.1-weights/resnet50_am-6c502b37.pth          78.998 224/256 224
resnet50.ra_in1k   v0.1-weights/resnet50_ra-85ebb6e5.pth          79.836 288/303 224
resnet50.bt_in1k   v0.1-weights/rw_resnet50-86acaeed.pth          79.640 288/303 224
resnet101.a1h_in1k v0.1-rsb-weights/resnet101_a1h-36d3f2aa.pth    82.778 288/288 224
resnet101.a1_in1k  v0.1-rsb-weights/resnet101_a1_0-cdcb52a9.pth   82.322 288/288 224
resnet101.a2_in1k  v0.1-rsb-weights/resnet101_a2_0-6edb36c7.pth   82.236 288/288 224
resnet101.a3_in1k  v0.1-rsb-weights/resnet101_a3_0-1db14157.pth   79.814 224/235 160
resnet152.a1h_in1k v0.1-rsb-weights/resnet152_a1h-dc400468.pth    -      288/288 224
resnet152.a1_in1k  v0.1-rsb-weights/resnet152_a1_0-2eee8a7a.pth   82.732 288/288 224
resnet152.a2_in1k  v0.1-rsb-weights/resnet152_a2_0-b4c6978f.pth   82.608 288/288 224
resnet152.a3_in1k  v0.1-rsb-weights/resnet152_a3_0-134d4688.pth   80.546 224/235 160
"""
