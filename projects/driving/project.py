"""Driving: a network learns to steer from an expert, and is evaluated by the laps that it drives on its own."""

from phaseflow import Candidate, Column, Drift, Gate, Metric, Project, Resources, Schema, Source

project = Project(
    name="driving",
    title="Driving",
    phase=6,
    environment="torch",
    description="Behaviour cloning in a small simulator: a network steers by what it sees, judged by laps and not by loss.",
    source=Source(
        url="",
        mirror="driving.npz",
        sample="driving.data:sample",
        read="driving.data:read",
        license="Apache-2.0 (made by the project's own expert)",
        minimum_rows=300,
    ),
    schema=Schema(
        features=(
            Column(name="image", kind="image", shape=(32, 32, 3), description="the road from above, ahead is up"),
            Column(name="road", kind="id", nullable=True, description="which road, for the log: its look and a number"),
        ),
        target=Column(
            name="steer", kind="action", shape=(1,), minimum=-1, maximum=1, description="-1 is left, 1 is right"
        ),
    ),
    transform="driving.data:transform",
    train="driving.model:train",
    rollout="driving.laps:rollout",
    evaluate="driving.laps:evaluate",
    group="road",  # successive images of a lap are almost equal
    holdout_share=0.15,  # the holdout only determines the looks of the evaluation roads
    candidates=(
        Candidate(name="constant_steering"),
        Candidate(name="ridge", params={"alpha": 10.0}),
        Candidate(name="behaviour_cloning", params={"epochs": 30, "rate": 0.003}),
    ),
    metrics=(
        Metric(name="lap", direction="higher", threshold=0.8),
        Metric(name="finished", direction="higher"),
    ),
    gate=Gate(minimum_gain=0.01, latency_ms=25, size_mb=1),
    drift=Drift(features=("image",), scenario="driving.drift:simulate"),
    resources=Resources(cpu=1, memory_mb=3000),
    example={
        "image": "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAH2UlEQVR42k1WSa8cVxU+d6q5qqu6+73nVp6l/AayQrBgVJZsWMACWMRCJlJCYjsDSRximxgrscHyEJEEg7JkwwIWiAWIRSTEIvyELJzB6X7dXd013Kq6dQcWBz2o1VWp6t5zzzcdcu7cT+q6DsNwu93mea6UklJyzpumieOYUpokCaXUGFOW5b17vwaAW/++JKXcbrdZlg3D4Pu+c05KOZ/P27ZVSgVBoLUGgOl0Spum0Vq3bZtlWdu2ACCE8H0/juO+7znnZVn2ff/555/HcQwAAHDxSzf7vo+iiBAShuF+v0+S5Pj4eBgGxhghBAAYY9ZaKSWVUvq+TwghhFBKpZRCCMZYVVVpmhJCzpw543ne448/3jTNq6++cf78MwDw5rd+hx+naQoAxphPPvkEi0vTlFLaNM3h4aG1lg7DYK0dx3G73QLAfD4PgsBaO5vNpJSEkO12u9vt2rZ1zhljAODChZcAIAzDoijW63UURcvl0vM8KaUxZhiGqqqyLKuqCgCoEGIYhmEY5vM5pXS9Xnddt9ls8GVZlr7vR1HknDs4ODDGpGlqrb1w4aVXvnxXa22M6ft+NptZa7MsU0ph34QQlNKqqqhSahxHAFgul5RSAIiiiFKa5/nx8fFisRBC7Pd77Ky1tus6YwxWd/mr76RpWhSFUmo+n/d93/d927ZpmkopnXNCCPr+++/cv387TdN3371X17W1tmkavOBqtVJKYTfKssRFlmVJkjDGEPDXvnJ/v98Pw1DXte/7CO9yuRRCAMCZM2fID3//bULI1a+///Jff3TjyQ/wt9dfv7bZbLIsG8dRKZXn+W63w7oAoCzLo6Mja+3bb18HgBf/8gMAqOs6z3NjzHQ6raoKQWaMUUopY+zah09zzq99+DQecPXqZcaYUso5h5pA2nmehzA8fPgQAQcAz/PyPC+KArlPKXXOHR0dOed2ux11zo3jqLWOoogxdv2fz7z2t6ee+eN379y5NY4jbjoMA2qHEMIYy/M8TVMUDQD84psPCCG4T5Zlu93O8zwUUBiG1PO8uq67rmuapu97AOCcI7vv3LmltZZSLhYL5ILW+pRys9nsjTfeBIDn//S9uq6FEHmeV1V1KjRjjDGGOufwXgBACLHWwv89d+/+Kk3TqqratiWEaK3jOMZv+r5H6fi+b61FPQVB0DRN13X7/T5N07quKSHk6OgIALIs01rv93tKqdb65kcX8QxsRRRFnHPsuOd5uBBCPPfcCzee/MDzvMViYYyx1j722GNCCPxeCEHx1tPpFB2Nc+55XpIkTdMAwFNPnUdTEkJwzsMw9DwP5c05P8UZG+B53mw2A4BhGAghcRwrpajv+0opzjnijGdUVVVV1YU/f//Bg99IKfM8R+J3Xdf3/Wq1EkKgB9++/Tb29uOPP/Z9HxFCHyzLcjab0f1+r7Ver9eMsa7rOOe73S4IgjiOEZ6u66qqGscRma6UOjw8zLIsjmNCyMWLLwOAUmo6nX766acnJyecc+ecUipN0yRJeBzH4ziuVitrLSEkSRJjjOd5ZVkeHh4imGEYjuN49uxZADg5OUH7NMZQSqfTKQCM4ziO4/Hx8Xa71VorpRhjwzA456gx5vTnLMvQEtB2cF0UxcHBgbV2tVptt1vEFpvg+z6e17YtWhZjDIOIMSaEaJqGUkqRP2EYNk2DdoihFgQB8me/3wdBoJRCMMdxRHi7rgvDEAAmk8l/G8J5kiTOuf1+b4wJw5Ail6uq6vueUiqE0FojtXC7siydc9vtFhMtjmPf97XWmEtd1wGAlBLFkWUZEikMQ0SCoqPleY7ym8/nk8kEKYzCPnv27DiOQRCgPXRdp7VGh0f6AcBsNsNAHIZhtVqtVivGGGPMOUfjOEbEfN9HrzfG1HV9ynEp5cHBQRAEq9UqCAJ0bM/zGGNFUWDhbduiSJum8TwvDMM4jtfrtXOOA0AQBISQrutQouM4zufzsizRHYdhMMZorTnn1lqcG+q6BoAkSfDqKIUwDHEosdbWdY3ZR09OTjBYhmHQWvd9r7Xuui4IgiiKAOCtt95EbLDF+DJN08lk0jTN1auXERittXNuMplMJhPMZ6WU7/vU9/0gCLqui+M4iiIMRTwDc/HKletKKeyblLJpmul0Oo4jDinXrt1ATp8Wsdls4jiO4zgIAikl5ZwzxjzPU0ptNhtsQpIkaZre/s4fEIM4jjnneZ6joeJolWVZlmXIIjxAKYXz0qNHj5BIs9mMor2g5S4Wi6IoiqIghAghLv/9HFJluVyio6GVtm0bBAFG8fXrV1DYTdMMw4ARi1dBilPsIJrUOI6bzQYnkd1ud+0bv8V9oygqioJz/ujRI4xP9I8wDJ9//kUA2O12OIdhJud5Xtc1ypb7vu95nrX28PAQSQYAzrksywDg0qWfod1ivUEQ4CQqhDDGrNfr9967jyForS2KglJ6cnJijFksFlJKitnStm1d15h2+CBxf/6PH9+8+cvNZoNSxxEmTVOkL/ICAG5+dBFHI8ZY27ac86IoPvvsM855lmX/y+TTkMK40Fpf+dp7zz57EedDnLSDIGjbllKKosmy7IUXXrn0xC1MJ2MM2hdyBJ2YTyYTdOMwDLuu2+12BwcHm80GXUxrjdOj1hozBxfoa1988cX9+7dv/Oun0+lUSrlcLo+Pj4UQ6/W673uco/8DZQleDCPuMlIAAAAASUVORK5CYII=",
        "road": "asphalt-1",
    },
    tags=("image", "control", "PyTorch"),
)
