"""The tools for agents, asked by the client of the protocol's own library."""

import os
import subprocess
import sys
import textwrap

import anyio
import pytest

from convspec.cli import tool_server

mcp = pytest.importorskip("mcp")
pytestmark = [pytest.mark.processes, pytest.mark.slow]
LAYER = "nn.Conv2d(3, 16, 3, stride=2, padding=1)"


def ask(name, timeout=60.0, memory=8 << 30, **arguments):
    """What a tool answers, over the memory of one process."""

    async def talk():
        async with mcp.Client(tool_server.server(timeout, memory)) as client:
            return await client.call_tool(name, arguments)

    found = anyio.run(talk)
    return found.is_error, found.structured_content


def test_the_server_speaks_over_standard_streams():
    async def talk():
        path = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        started = mcp.StdioServerParameters(command=sys.executable, args=["-m", "convspec", "mcp"], env=path)
        async with mcp.Client(started) as client:
            tools = (await client.list_tools()).tools
            answer = await client.call_tool("show", {"layers": [LAYER], "input_shapes": ["1,3,32,32"]})
            return tools, answer.structured_content, client.instructions

    tools, answer, instructions = anyio.run(talk)
    assert [tool.name for tool in tools] == ["explain", "show", "source", "compare", "verify", "judge"]
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
    assert answer["exit_status"] == 0
    assert "judge" in instructions
    assert answer["result"]["spec"]["out_channels"] == 16


def test_a_layer_is_written_in_another_framework():
    failed, answer = ask("source", layer=LAYER, to="flax")
    assert not failed
    assert "nnx.Conv(" in answer["result"]["source"]


def test_a_message_is_explained():
    message = "Traceback …\nRuntimeError: mat1 and mat2 shapes cannot be multiplied (1x10816 and 12544x10)"
    _, answer = ask("explain", message=message)
    assert (answer["exit_status"], answer["result"]["known"]) == (0, True)


def test_a_bad_request_is_an_answer_with_the_reason():
    _, answer = ask("show", layers=["nn.Conv2d(3, 16"])
    assert answer["exit_status"] == 2
    assert answer["result"] is None
    assert answer["messages"].startswith("convspec: ")


@pytest.mark.parametrize("layer", ["--svg=picture.svg", "--markdown=x", "-h"])
def test_no_argument_is_an_option(layer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, answer = ask("show", layers=[layer])
    assert answer["exit_status"] == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import os; os.abort()", ""),
        ("import time; time.sleep(99)", "no answer within 3 s"),
        ("x = [bytearray(1 << 28) for _ in range(99)]", ""),
        ("import os; os.kill(os.getppid(), 0); os._exit(0)", ""),
        ("print('{}' * (1 << 22))", ""),
    ],
)
def test_a_hostile_model_ends_its_own_call_alone(code, says, tmp_path):
    (tmp_path / "hostile.py").write_text(f"def build():\n    {code}\n")
    name = f"{tmp_path}/hostile.py:build"

    async def talk():
        async with mcp.Client(tool_server.server(3.0, 1 << 30)) as client:
            bad = await client.call_tool("compare", {"a": name, "b": name, "shape": "1,3,9,9"})
            good = await client.call_tool("source", {"layer": LAYER, "to": "torch"})
            return bad.structured_content, good.structured_content

    bad, good = anyio.run(talk)
    assert bad["result"] is None
    assert says in bad["messages"]
    assert good["exit_status"] == 0 or "no answer" in good["messages"]  # a busy machine takes longer to start


@pytest.mark.torch
def test_models_are_compared_and_judged(tmp_path):
    text = textwrap.dedent("""
        import torch
        def build():
            torch.manual_seed(0)
            return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding={}), torch.nn.ReLU())
    """)
    for name, padding in (("net", 1), ("right", 1), ("wrong", "'same', padding_mode='reflect'")):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.py").write_text(text.format(padding))
    net, right, wrong = (f"{tmp_path}/{name}/{name}.py:build" for name in ("net", "right", "wrong"))
    judged = [ask("judge", port=port, source=net, shapes=["2,3,12,9"])[1]["result"] for port in (right, wrong)]
    assert [one["verdict"] for one in judged] == ["accepted", "refused"]
    assert "(0)" in judged[1]["divergence"]
    compared = ask("compare", a=net, b=wrong, shape="2,3,12,9")[1]
    assert (compared["exit_status"], compared["result"]["verdict"]) == (1, "differ")


def test_without_the_library_the_command_says_what_to_install():
    code = "import sys; sys.modules['mcp.server.mcpserver'] = None; from convspec.cli.app import main; main()"
    run = subprocess.run([sys.executable, "-c", code, "mcp"], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert "pip install 'convspec[mcp]'" in run.stderr
