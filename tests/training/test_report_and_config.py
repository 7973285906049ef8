"""A report that the caller passes is compared with the config before training starts."""

from pathlib import Path

import pytest

import mslab
from mslab.check import check_dataset
from mslab.errors import DatasetError


@pytest.mark.parametrize("class_num", [2, 4])
def test_a_report_without_class_num_is_compared_with_the_config(class_num, three, inside):
    report = check_dataset(three["train_data"], three["val_data"])
    assert report.ok and report.class_num is None
    with pytest.raises(DatasetError) as caught:
        mslab.train(three | {"class_num": class_num}, report=report)
    assert f"has 3 class folders, the config says class_num: {class_num}." in str(caught.value)
    assert "class_num: 3, or other folders" in str(caught.value) and not Path("runs").exists()
