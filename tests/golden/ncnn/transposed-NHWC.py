import ncnn

PARAM = """\
7767517
4 4
Input x 0 1 x
Permute first 1 1 x first 0=4
DeconvolutionDepthWise conv 1 1 first conv 0=6 1=2 2=1 3=3 4=0 5=1 6=72 7=2 11=3 12=1 13=2 14=1 15=1 16=0 18=2 19=1
Permute last 1 1 conv y 0=3
"""

layer = ncnn.Net()
layer.load_param_mem(PARAM)
