"""The schema: every setting with range, default, unit and effect."""

from typing import Annotated, Any, Literal

from pydantic import Field, PrivateAttr

from mslab.config.data_schema import DataSettings
from mslab.config.kinds import BestBy, Epoch, Epochs, Grid, NetworkName, Part, Profile, Stages, Strategy
from mslab.config.origins import COMMAND_LINE, SettingOrigin


class Settings(DataSettings):
    """All settings: those of the data, and these."""

    _origins: dict[str, SettingOrigin] = PrivateAttr(default_factory=dict)  # of the settings that were written

    # network
    network: NetworkName | None = Field(
        None,
        description="a network of mindcv, such as mindcv:mobilenet_v2_100 (needs the extra mslab[mindcv]), under the "
        "same head; null = model.py's ResNet (or the backbone's)",
    )
    stages: Stages = Field(
        None,
        description="rows of blocks, width, stride that replace model.STAGES; null = ResNet-50's (or the backbone's)",
    )
    profile: Profile | None = Field(
        None,
        description="block, padding, pool, eps, outer_eps that replace model.PROFILE; null = mslab's (or the "
        "backbone's)",
    )
    stem: Literal["imagenet", "small"] | None = Field(
        None, description="small = one 3x3 convolution, no pooling, for images below 64 pixels; null = imagenet's 7x7"
    )
    head_hidden: int = Field(0, ge=0, le=65536, description="width of one additional layer in the head; 0 = none")
    dropout: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="fraction of the features that each training step drops; a resumed run drops others",
    )
    # transfer: what is frozen
    freeze: Literal["none", "all"] = Field(
        "none", description="'all' freezes the backbone (BatchNorm statistics too), 'none' trains everything"
    )
    layers_to_freeze: int = Field(
        0,
        ge=0,
        le=100,
        description="number of groups to freeze, counted from the input: 1 = stem, 2 = stem and layer1, 5 = stem "
        "and all four layers of a ResNet; mslab show lists the groups of a network",
    )
    freeze_layer_pattern: str | None = Field(
        None, description="freeze the parameters whose names match this regular expression: ^(conv1|bn1|layer1)\\."
    )
    unfreeze: dict[Epoch, Part] = Field(
        {}, description="epoch, 2 or later: part to train from then on, such as {3: layer4, 6: backbone}"
    )
    lr_scale: dict[Part, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="part: factor on its learning rate, such as {backbone: 0.1}; 0 is refused: it would not "
        "freeze the part",
    )
    feature_views: int = Field(
        2,
        ge=0,
        le=1000,
        description="if the backbone is completely frozen: augmented views per image whose features are cached; "
        "0 = compute them in every epoch",
    )
    # learning rate
    epochs: int = Field(12, ge=1, le=100_000, description="passes over train_data")
    lr_scheduler: Literal["warmup_cosine", "step", "one_cycle", "constant", "plateau", "strategy"] | None = Field(
        None, description="learning rate after warmup; null = decided by the settings below, else warmup_cosine"
    )
    warmup_epochs: float = Field(
        2,
        ge=0,
        description="epochs in which the learning rate rises step by step from lr_init to lr_max; 0.5 is half an epoch",
    )
    lr_init: float = Field(0.01, ge=0, le=100, description="learning rate of the first warmup step")
    lr_max: float = Field(0.1, gt=0, le=100, description="learning rate after warmup; lower it if the loss diverges")
    lr_end: float = Field(0.0, ge=0, le=100, description="learning rate at the end of a cosine")
    cosine_cycles: float = Field(
        0.5, gt=0, le=100, description="cycles of the cosine: 0.5 falls to lr_end, 1.5 also rises and falls again"
    )
    step_lr_gamma: float = Field(
        0.5, gt=0, le=1, description="step: factor on the rate after every step_lr_step_size epochs"
    )
    step_lr_step_size: int = Field(
        5, ge=1, le=100_000, description="step: epochs from one reduction of the rate to the next"
    )
    lr_scheduler_step: Epochs | None = Field(
        None, description="step: epochs after which the rate falls, such as 10,20; replaces step_lr_step_size"
    )
    lr_scheduler_factor: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="factor on the rate at each epoch of lr_scheduler_step, and at each reduction of plateau",
    )
    plateau_patience: int = Field(
        3, ge=1, le=100_000, description="plateau: evaluations without a better val_acc (best_by) before the rate falls"
    )
    lr_floor: float | None = Field(
        None,
        gt=0,
        le=100,
        description="plateau: stop the run before the rate would fall below this; null = lr_max / 1024",
    )
    learning_rate_strategy: Strategy | None = Field(
        None,
        description="in ModelArts' notation: 5:0.01->0.1,20:0.1~>0.001; linear ->, exponential =>, cosine ~>; "
        "0.002 = plateau",
    )
    # optimizer
    optimizer: Literal["sgd", "momentum", "adam", "adamw", "radam", "rmsprop", "adadelta", "lamb"] = Field(
        "momentum", description="momentum = SGD with momentum; adam and its variants need an lr_max of about 0.001"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="fraction of the last update that carries over to the next")
    nesterov: bool = Field(False, description="Nesterov momentum: looks one update ahead")
    beta1: float = Field(
        0.9, ge=0, lt=1, description="adam and its variants: decay of the running mean of the gradients"
    )
    beta2: float = Field(
        0.999, ge=0, lt=1, description="adam and its variants: decay of the running mean of the squared gradients"
    )
    amsgrad: bool = Field(
        False, description="adam divides by the largest running mean of squared gradients so far (Reddi 2018)"
    )
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="pulls weights towards zero; BatchNorm and biases are excluded"
    )
    clip_grad_norm: float = Field(
        0.0, ge=0, description="largest norm of all gradients together; longer ones are scaled down to it; 0 = no limit"
    )
    grad_accumulation_step: int = Field(
        1,
        ge=1,
        le=100_000,
        description="batches whose mean gradient makes one update; BatchNorm normalises each batch separately",
    )
    ema_decay: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="0 = off; 0.999 = evaluate and save an exponential moving average of the weights with this decay",
    )
    # loss
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="fraction of every label that is distributed over all classes"
    )
    weighted_loss: Literal[0, 1, 2] = Field(
        0, description="weight of a class: 2 = images / (classes x images of the class), 1 = its square root, 0 = equal"
    )
    focal_gamma: float = Field(
        0.0,
        ge=0,
        le=10,
        description="0 = off; 2 = images that the network already classifies well count less (Lin 2017)",
    )
    ohem_top_ratio: float = Field(
        1.0,
        gt=0,
        le=1,
        description="fraction of each batch, its hardest images, that the loss uses (Shrivastava 2016); 1 = all",
    )
    # detect
    box_score_thresh: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="detect: score from which a box is shown; average precision also counts those down to 0.05"
    )
    nms_iou_thresh: Annotated[float, Field(ge=0, le=1)] | None = Field(
        0.5,
        description="detect: a box that overlaps a surer one of its class by more than this (intersection over union) "
        "is dropped; null = none is",
    )
    box_detections_per_img: int = Field(100, ge=1, le=1000, description="detect: boxes of an image, at most")
    tile_grid_size: Grid | None = Field(
        None,
        description="detect: for small things, tiles across and down, such as 3,2: the network sees the whole image "
        "and each tile, in training too; null = the whole image alone",
    )
    tile_overlap_ratio: float = Field(0.25, ge=0, lt=1, description="detect: share of its side that a tile overlaps")
    tile_predictions_nms_thresh: float = Field(
        0.25, ge=0, le=1, description="detect: nms_iou_thresh for the boxes of all tiles together"
    )
    validation_metric_type: Literal["voc", "coco", "coco_voc", "none"] = Field(
        "voc",
        description="detect: average precision of PASCAL VOC or COCO, or both; none = only the loss (needs best_by: "
        "loss)",
    )
    validation_iou_threshold: float = Field(
        0.5, ge=0.1, le=1, description="detect: overlap from which a box counts as found in VOC's average precision"
    )
    # evaluating and stopping
    do_eval_along_train: bool = Field(True, description="false = evaluate after the last epoch only")
    evaluation_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one evaluation to the next")
    checkpoint_frequency: int = Field(1, ge=1, le=100_000, description="epochs from one last.ckpt to the next")
    best_by: BestBy | None = Field(
        None,
        description="measure of the validation images that chooses best.ckpt, and that stopping, plateau and sweeps "
        "follow: accuracy, balanced_accuracy, macro_f1, loss or recall:CLASS; of equal ones the epoch with the lower "
        "val_loss. null = accuracy, of equal ones the earliest epoch",
    )
    calibrate: bool = Field(
        False,
        description="fit a temperature on the validation images (Guo 2017): reliable probabilities, the same classes",
    )
    early_stopping: bool = Field(False, description="stop the run when val_acc (or best_by) no longer improves")
    early_stopping_patience: int = Field(
        5, ge=1, le=100_000, description="evaluations without a better one until it stops"
    )
    early_stopping_delay: int = Field(0, ge=0, le=100_000, description="evaluations before early stopping counts")
    early_stopping_min_epochs: int = Field(0, ge=0, le=100_000, description="epochs that are trained in any case")
    early_stopping_tolerance: float = Field(
        0.0, ge=0, le=1, description="relative improvement over the best so far that a better one has to exceed"
    )
    target_accuracy: float | None = Field(None, gt=0, le=1, description="stop the run when val_acc reaches this")
    target_loss: float | None = Field(None, gt=0, description="stop the run when val_loss falls to this")
    max_training_time: float | None = Field(
        None, gt=0, description="hours of one call; the run saves and stops in time, and --resume continues it"
    )
    on_nan: Literal["stop", "rollback"] = Field(
        "stop",
        description="if the loss is not finite: stop, or rollback: repeat the epoch at a tenth of the rate, at "
        "most three times",
    )
    seed: int = Field(
        1,
        ge=0,
        le=2**31 - 1,
        description="determines weights, data order, augmentation and mixing; equal seeds give equal runs; null "
        "draws one",
    )
    deterministic: bool = Field(
        False,
        description="on a GPU and on Ascend: use MindSpore's deterministic operators; slower. A CPU is always "
        "deterministic",
    )
    # logging
    log_to: Literal["none", "tensorboard"] = Field(
        "none",
        description="besides history.csv: tensorboard = metrics, first batch, histograms of weights and "
        "precision-recall curves of each epoch as event files in RUN/tensorboard/",
    )
    # machine
    device: Literal["auto", "cpu", "gpu", "ascend"] = Field(
        "auto", description="auto = the best that works on this machine"
    )
    engine: Literal["auto", "mindspore", "onnxruntime", "openvino"] = Field(
        "auto",
        description="what computes the features of a frozen backbone, and the report: auto = onnxruntime on a CPU, "
        "MindSpore elsewhere; openvino needs the extra mslab[openvino]. Training and evaluation are MindSpore's",
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32",
        description="of engine, not of training (amp_level): bf16 = bfloat16, several times as fast on a CPU with AMX; "
        "needs engine: openvino",
    )
    sync_bn: bool = Field(
        False,
        description="with --workers: BatchNorm over the images of all workers together, not of each worker; slower",
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="with --workers N: lr_max unchanged, times N, or times the square root of N"
    )
    amp_level: Literal["auto", "O0", "O2", "O3"] = Field(
        "O0", description="O0 = float32; O2 = float16 except BatchNorm, O3 = all float16; auto = O2, on a CPU O0"
    )
    jit_level: Literal["auto", "O0", "O1", "O2"] = Field(
        "auto",
        description="optimisation level of MindSpore's compiler in graph mode; auto = MindSpore's choice for the "
        "device",
    )
    max_device_memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?GB$")] | None = Field(
        None, description="limit of MindSpore's memory on the device, such as 28GB; null = all free memory"
    )
    mode: Literal["graph", "pynative"] = Field(
        "graph", description="graph compiles one step (fast); pynative runs line by line (slow, for a debugger)"
    )
    max_to_keep: int = Field(
        0, ge=0, le=1000, description="number of best epochs whose checkpoints are kept besides best.ckpt and last.ckpt"
    )

    def replace(self, **changes: Any) -> "Settings":
        """Return a copy with these changes. Raises ValidationError if one is unknown or out of range."""
        changed = type(self)(**(self.model_dump() | changes))
        changed._origins = {name: origin for name, origin in self._origins.items() if name not in changes}
        return changed

    def origin(self, name: str) -> str:
        """Where a setting was written, such as "x.yaml, line 3"; "" for a default and for what mslab has decided."""
        return str(self._origins.get(name, ""))

    def said_by(self, name: str) -> str:
        """The same for a sentence: "x.yaml, line 3", "the command line", or "the config" for all others."""
        origin = self._origins.get(name)
        return str(origin) if origin and (origin.line or origin.place == COMMAND_LINE) else "the config"

    def __eq__(self, other: object) -> bool:
        """Equal values, wherever they were written."""
        return isinstance(other, Settings) and vars(self) == vars(other)

    def network_profile(self) -> dict[str, Any]:
        """Return `profile` as model.py expects it; empty if it is not set."""
        return self.profile.model_dump() if self.profile else {}


FIELDS = Settings.model_fields
