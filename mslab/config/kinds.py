"""The kinds of values that settings have besides numbers, words and yes or no."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mslab.stages import EXPECTED, read_table

Mean = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
Std = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)]
Epoch = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=r"^([2-9]|[1-9]\d+)$")]
Part = Annotated[str, Field(pattern=r"^(backbone|stem|layer[1-9]\d*|head)$")]
Epochs = Annotated[
    str,
    BeforeValidator(lambda e: ",".join(map(str, e)) if isinstance(e, list) else str(e) if type(e) is int else e),
    Field(pattern=r"^\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*$"),
]


def _stages(table: Any) -> list[list[int]] | None:
    """The table of stages. Raises ValueError that names every row that is wrong."""
    rows, problems = ([], []) if table is None else read_table(table)
    if problems:
        raise ValueError("\n".join(f"{row}: {text}" for row, text in problems) + f"\n({EXPECTED})")
    return None if table is None else rows


Stages = Annotated[list[list[int]] | None, BeforeValidator(_stages)]
Strategy = Annotated[str, BeforeValidator(lambda rate: str(rate) if type(rate) in (int, float) else rate)]
# a folder may be called 1, and YAML reads that as a number; the order of names changes nothing
Name = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=r"^[^/\x00]+$")]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(sorted)]
Groups = Annotated[dict[Name, Names], AfterValidator(lambda groups: dict(sorted(groups.items())))]
Pixels = Annotated[int, Field(ge=16, le=1024)]


class Profile(BaseModel):
    """How a network is built besides its table of stages; files of other projects differ in it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    padding: Literal["symmetric", "same"] = "symmetric"
    pool: Literal["symmetric", "same"] = "symmetric"
    stem: Literal["imagenet", "small"] = "imagenet"
    eps: float = Field(1e-5, gt=0, le=0.1)
    outer_eps: float = Field(1e-5, gt=0, le=0.1)
