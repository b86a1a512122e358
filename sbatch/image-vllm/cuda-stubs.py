"""cuda-stubs.py SITE_PACKAGES - empty stand-ins for the NVIDIA libraries that PyTorch's CUDA build is linked to.

The Python package index has PyTorch for Linux with CUDA only: its libraries name 2 GB of NVIDIA's, which an image without
a GPU never calls but which the loader wants. Each stand-in has the name and the (versioned) symbols that are asked of it,
all of which return an error. What is small and called at import (the CUDA runtime, CUPTI) is the real thing.
"""
import glob
import os
import re
import subprocess
import sys

site = sys.argv[1]
libraries = os.path.join(site, "torch", "lib")


def readelf(*arguments):
    return subprocess.run(["readelf", *arguments], capture_output=True, text=True, check=True).stdout


real = glob.glob(site + "/nvidia/*/lib/*.so*")
ours = [path for path in glob.glob(libraries + "/*.so*") if os.path.isfile(path)]
needed, undefined, defined, file_of_version = set(), set(), set(), {}
for path in ours + real:
    if path in ours:
        needed |= set(re.findall(r"\(NEEDED\).*\[(.+?)\]", readelf("-dW", path)))
        current = None
        for line in readelf("-VW", path).splitlines():
            if found := re.search(r"File: (\S+)", line):
                current = found.group(1)
            if (found := re.search(r"Name: (\S+)\s+Flags", line)) and current:
                file_of_version[found.group(1)] = current
    for line in readelf("--dyn-syms", "-W", path).splitlines():
        fields = line.split()
        if len(fields) < 8 or not fields[0].endswith(":"):
            continue
        name, _, version = fields[7].partition("@")
        if fields[6] != "UND":
            defined.add(name)
        elif path in ours:
            undefined.add((name, version.lstrip("@")))

have = {os.path.basename(path) for path in ours + real}
# libcuda is the driver's: opened at run time, never linked to
missing = sorted(name for name in needed - have if re.match(r"lib(cu|nv|nccl)", name) and name != "libcuda.so.1")
symbols, placed = {name: {} for name in missing}, set()
# a versioned symbol has to come from the library that its version names
for name, version in sorted(undefined):
    library = file_of_version.get(version)
    if name not in defined and library in symbols:
        symbols[library].setdefault(version, []).append(name)
        placed.add(name)
nvidias = re.compile(r"^(cu(blas|fft|rand|solver|sparse|dnn|File)|p?nccl|nvrtc|nvshmem|nvJitLink)", re.I)
for name, _ in sorted(undefined):
    if missing and name not in defined and name not in placed and nvidias.match(name):
        symbols[missing[0]].setdefault("", []).append(name)
        placed.add(name)

for library, versions in symbols.items():
    path = os.path.join(libraries, library)
    names = sorted({name for group in versions.values() for name in group})
    script = "".join(f"{version} {{ global: {' '.join(n + ';' for n in group)} }};\n" for version, group in versions.items() if version)
    command = ["gcc", "-shared", "-fPIC", "-O1", "-w", "-nostdlib", "-fno-builtin", "-Wl,-soname," + library]
    if script:
        with open(path + ".map", "w") as file:
            file.write(script)
        command.append("-Wl,--version-script=" + path + ".map")
    # 999 is cudaErrorUnknown, and no success in the other libraries either
    source = "".join(f"int {name}(void) {{ return 999; }}\n" for name in names)
    subprocess.run([*command, "-x", "c", "-", "-o", path], input=source, text=True, check=True)
    if script:
        os.remove(path + ".map")
print(f"{len(symbols)} libraries with {len(placed)} symbols stand in for NVIDIA's")
