"""The operator's one call: what it may be, and what is said when it can't be made (R-ID-6)."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.local import keys
from shared.messaging import operator


def test_r_id_6_only_the_operators_own_calls(capsys: pytest.CaptureFixture[str]) -> None:
    """R-ID-6"""
    assert "identity.make_first_administrator" in operator.calls()
    assert {"identity.give_regional_admin", "identity.take_regional_admin"} <= operator.calls().keys()
    assert {"cases.run_job", "identity.take_apart"} <= operator.calls().keys()
    assert not {"cases.list_my_cases", "identity.give_role", "identity.current_rights"} & operator.calls().keys()
    for wrong in (["cases.list_my_cases"], [], ["identity.run_job", "{}"], ["identity.run_job", "nothing"]):
        with pytest.raises(SystemExit) as ended:
            operator.main(wrong)
        assert ended.value.code == 2
    capsys.readouterr()


def test_missing_settings_are_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = keys.make(tmp_path / "keys", ("identity",))
    monkeypatch.delenv("AMQP_URL", raising=False)
    monkeypatch.delenv("OPERATOR_KEY_FILE", raising=False)
    call = ["identity.run_job", '{"job": "refresh_residents"}']
    assert operator.main(call) == 78
    assert "AMQP_URL is not set" in capsys.readouterr().err
    monkeypatch.setenv("AMQP_URL", "amqp://operator@127.0.0.1:1/v")
    assert operator.main(call) == 78
    assert "OPERATOR_KEY_FILE is not set" in capsys.readouterr().err
    monkeypatch.setenv("OPERATOR_KEY_FILE", str(made.signing_key("operator")))
    (tmp_path / "weak").write_text("weak")
    monkeypatch.setenv("AMQP_PASSWORD_FILE", str(tmp_path / "weak"))
    assert operator.main(call) == 78
    said = capsys.readouterr().err
    assert "weak password" in said
