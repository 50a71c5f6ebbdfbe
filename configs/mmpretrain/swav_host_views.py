_base_ = "mmpretrain::swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py"
custom_imports = dict(imports=["sp_mmselfsup"])
sp = dict(source="host_views")
model = dict(_delete_=True, type="SPAlgorithm", algorithm={{_base_.model}}, sp=sp)
train_dataloader = dict(
    dataset=dict(pipeline=[dict(type="SPViewBoxes", pipeline={{_base_.train_pipeline}})])
)
