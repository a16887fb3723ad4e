"""The site's search: questions as people ask them find the right page first."""

import pytest

pytestmark = pytest.mark.browser
PARAMETERS, HOW_TO, EXPLANATION = "reference/parameters/", "how-to/", "explanation/"
# the query, and the page that must come first; of the second list, where the question was asked
FRONT = {
    "What does out_channels in Conv2d represent?": PARAMETERS + "out_channels",
    "PyTorch's padding=1, Keras' same, stride 2": PARAMETERS + "padding",
    "What is output_padding of ConvTranspose2d?": PARAMETERS + "output_padding",
    "NCHW or NHWC: what does a flatten change?": PARAMETERS + "layout",
    "What is the formula of a Conv2d's output size?": EXPLANATION + "convolution",
    "How do I move PyTorch weights to Keras or Flax?": EXPLANATION + "layouts",
    "mat1 and mat2 shapes cannot be multiplied": "reference/messages/torch",
    "Depthwise: what does groups=in_channels do?": PARAMETERS + "groups",
    "ONNX auto_pad: SAME_UPPER or SAME_LOWER?": EXPLANATION + "padding",
    "Why does my ONNX model's output differ from PyTorch's?": HOW_TO + "why-a-port-disagrees",
}
FORUMS = {
    "nn.Conv2d with padding=same supports a stride of 2": (
        PARAMETERS + "padding", "https://github.com/pytorch/pytorch/issues/67551"),
    "Conv2D Layer in PyTorch and Keras. Issue with padding elements": (
        PARAMETERS + "padding", "https://github.com/keras-team/keras/issues/19291"),
    "Implement same padding for convolution operations?": (
        PARAMETERS + "padding", "https://github.com/pytorch/pytorch/issues/3867"),
    "nn.ConvTranspose2d output_padding not padding 0": (
        PARAMETERS + "output_padding", "https://github.com/pytorch/pytorch/issues/25536"),
    "Is output_padding = (0,0) in Conv2DTranspose okay to use?": (
        PARAMETERS + "output_padding", "https://github.com/keras-team/keras/issues/14158"),
    "How does a transposed convolutional layer apply its kernels to the inputs": (
        EXPLANATION + "transposed", "https://discuss.pytorch.org/t/120765"),
    "Transform weights from NCHW to NHWC model": (EXPLANATION + "layouts", "https://discuss.tensorflow.org/t/12658"),
    "channel_last and channels_first weight storage": (
        EXPLANATION + "layouts", "https://github.com/keras-team/keras/issues/13000"),
    "Given groups=1, weight of size [64, 3, 3, 3], expected input[1, 1, 256, 256] to have 3 channels, "
    "but got 1 channels instead": ("reference/messages/torch", "https://github.com/avBuffer/UNet3plus_pth/issues/19"),
    "expected stride to be a single integer value or a list of 1 values to match the convolution dimensions": (
        "reference/messages/torch", "https://github.com/pytorch/pytorch/issues/7077"),
    "Dilation not supported for AutoPadType::SAME_UPPER or AutoPadType::SAME_LOWER": (
        "reference/messages/onnx", "https://github.com/microsoft/onnxruntime/issues/20582"),
    "outputs are different between ONNX and pytorch": (
        HOW_TO + "why-a-port-disagrees", "https://github.com/onnx/onnx/issues/2662"),
    "depthwise_conv2d stride and dilation wrong pixels": (
        "divergences/tensorflow-depthwise-stride-and-dilation",
        "https://github.com/tensorflow/tensorflow/issues/100237"),
    "Calculating the output size in convolutional layers": (
        EXPLANATION + "convolution", "https://github.com/keras-team/keras/issues/7452"),
    "How to calculate receptive field?": (
        EXPLANATION + "convolution", "https://github.com/mattmacy/vnet.pytorch/issues/2"),
    "depthwise convolution": (PARAMETERS + "groups", "https://github.com/pytorch/pytorch/issues/3618"),
    "ConvTranspose2d + stride will get bad checkerboard": (
        PARAMETERS + "transposed", "https://github.com/soumith/ganhacks/issues/59"),
    "Which data format is more friendly, nhwc or nchw": (
        PARAMETERS + "layout", "https://github.com/alibaba/MNN/issues/777"),
    "Atrous convolution": (PARAMETERS + "dilation", "https://github.com/tensorpack/tensorpack/issues/289"),
    "reflection padding": (PARAMETERS + "padding_mode", "https://gitmemories.com/coreylowman/dfdx/issues/667"),
}  # fmt: skip


WORDS = {  # as people type them
    "same padding stride 2": PARAMETERS + "padding",
    "conv2d output size formula": EXPLANATION + "convolution",
    "receptive field": EXPLANATION + "convolution",
    "depthwise": PARAMETERS + "groups",
    "checkerboard": PARAMETERS + "transposed",
    "NHWC vs NCHW": PARAMETERS + "layout",
}


@pytest.fixture(scope="module")
def page(browser, site):
    page = browser.new_page()
    page.goto(f"{site}/search.html")
    yield page
    page.close()


def test_each_question_finds_its_page_first(page):
    wanted = FRONT | WORDS | {query: expected for query, (expected, _) in FORUMS.items()}
    first = page.evaluate(
        "async (queries) => { const { find } = await import('/_static/search.js'); const first = {};"
        " for (const query of queries) first[query] = (await find(query)).slice(0, 3)"
        ".map(({ data }) => data.url.replace(/^.*?\\/\\/[^/]*|^\\//, '').replace(/\\.html.*/, ''));"
        " return first }",
        [*wanted],
    )
    wrong = {query: found for query, found in first.items() if found[:1] != [wanted[query]]}
    assert not wrong
    assert (len(FRONT), len(FORUMS)) == (10, 20)


def test_a_search_can_be_linked_and_an_error_message_is_explained_above(page, site):
    page.goto(f"{site}/search.html?q=mat1+and+mat2+shapes+cannot+be+multiplied+(32x10816+and+12544x10)")
    page.wait_for_selector("#results li")
    assert "nn.Linear(10816, 10)" in page.inner_text("#explanation")


def test_decisions_and_measurements_are_not_found(page):
    found = page.evaluate(
        "async () => (await (await import('/_static/search.js')).find('decision record performance ratio baseline'))"
        ".map(({ data }) => data.url)"
    )
    assert found
    assert not [url for url in found if "decisions/" in url or "performance" in url]
