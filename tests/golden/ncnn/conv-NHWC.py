import ncnn

PARAM = """\
7767517
4 4
Input x 0 1 x
Permute first 1 1 x first 0=4
Convolution conv 1 1 first conv 0=4 1=5 2=2 3=1 4=2 5=1 6=180 11=3 12=1 13=2 14=1 15=3 16=0
Permute last 1 1 conv y 0=3
"""

layer = ncnn.Net()
layer.load_param_mem(PARAM)
