import ncnn

PARAM = """\
7767517
2 2
Input x 0 1 x
DeconvolutionDepthWise conv 1 1 x y 0=6 1=2 2=1 3=3 4=0 5=1 6=72 7=2 11=3 12=1 13=2 14=1 15=1 16=0 18=2 19=1
"""

layer = ncnn.Net()
layer.load_param_mem(PARAM)
