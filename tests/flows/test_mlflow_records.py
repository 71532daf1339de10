"""What MLflow would refuse, and with it the whole record of a build."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_metric_name, _validate_param_name

from flows.mlflow_records import name_of


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab海.:/ -_+#'\"&\n\\😀"), min_size=1, max_size=300))
def test_any_label_of_a_user_makes_a_name(label: str) -> None:
    for name in (name_of(f"{label}.f1"), name_of(f"classes.{label}")):
        _validate_metric_name(name)
        _validate_param_name(name)


@pytest.mark.parametrize("name", ["loss", "dropped.gopher.length", "rule.classifier.海.precision", "bits per byte"])
def test_other_names_stay_as_they_are(name: str) -> None:
    assert name_of(name) == name
