"""Draws scene descriptions with OpenGL (moderngl, off screen through EGL; a GPU or Mesa's software renderer)."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from egohoi.errors import EgohoiError, need

from .scene import SceneDescription

NEAR, FAR = 0.04, 40.0


class NoOpenGL(EgohoiError):
    """No off-screen OpenGL 3.3 context can be made here."""


@dataclass(frozen=True, eq=False)
class Rendered:
    """rgb: float32 [H, W, 3] linear light; labels: uint8 [H, W] instance numbers; depth: float32 [H, W] metres along the view axis."""

    rgb: np.ndarray
    labels: np.ndarray
    depth: np.ndarray


_PROJECT = """
uniform mat4 model; uniform mat3 axes; uniform vec3 eye; uniform float bend, lens, aspect;
vec4 project(vec3 world, out float away) {
    vec3 v = axes * (world - eye);
    away = -v.z;
    float across = length(v.xy);
    float w = -v.z;
    float angle = atan(across, w);
    // Beyond EDGE the lens goes on as a pinhole, so that clipping at the near plane stays exact for what is behind.
    float k = angle < EDGE ? tan(bend * angle) / bend * w : tan(bend * EDGE) / bend / tan(EDGE) * across;
    vec2 p = across > 1e-7 ? v.xy / across * (k / lens) : vec2(0.0);
    return vec4(p.x, p.y * aspect, (FAR + NEAR) / (FAR - NEAR) * w - 2.0 * FAR * NEAR / (FAR - NEAR), w);
}
""".replace("FAR", f"{FAR:.3f}").replace("NEAR", f"{NEAR:.3f}").replace("EDGE", "1.35")

_VERTEX = "#version 330\n" + _PROJECT + """
uniform mat4 shadow; uniform float tile;
in vec3 position, normal, tint; in vec2 uv;
out vec3 world, n, colour, lit; out vec2 t;
void main() {
    vec4 p = model * vec4(position, 1.0);
    world = p.xyz; n = mat3(model) * normal; colour = tint; t = tile > 0.0 ? uv / tile : uv;
    vec4 s = shadow * p; lit = s.xyz * 0.5 + 0.5;
    float away; gl_Position = project(p.xyz, away);
}"""

_FRAGMENT = """#version 330
uniform vec3 eye, sun, sunColour, sky, ground, lamp, lampColour, paint;
uniform sampler2D image; uniform sampler2DShadow shade;
uniform float textured, rough, shine, alpha, wrap, softness, cut;
in vec3 world, n, colour, lit; in vec2 t;
out vec4 result;
const vec2 spots[6] = vec2[](vec2(-.6,-.2), vec2(.3,-.7), vec2(.7,.4), vec2(-.2,.8), vec2(.05,.05), vec2(-.9,.5));
void main() {
    vec3 N = n / max(length(n), 1e-6), V = normalize(eye - world);
    if (dot(N, V) < 0.0) N = -N;
    vec3 base = colour * paint; float a = alpha;
    if (textured > 0.5) { vec4 c = texture(image, t); if (cut > 0.5) { if (c.a < 0.5) discard; } base *= c.rgb; }
    base = base * base * (0.3 * base + 0.7);  // sRGB to linear, nearly
    float visible = 0.0;
    for (int i = 0; i < 6; i++) visible += texture(shade, vec3(lit.xy + spots[i] * softness, lit.z - 0.003));
    visible /= 6.0;
    float facing = dot(N, sun);
    float direct = max(0.0, (facing + wrap) / (1.0 + wrap)) * visible;
    vec3 L = lamp - world; float far = dot(L, L); L = normalize(L);
    float second = max(0.0, (dot(N, L) + wrap) / (1.0 + wrap)) / (1.0 + far);
    vec3 ambient = mix(ground, sky, N.z * 0.5 + 0.5);
    vec3 light = base * (ambient + sunColour * direct + lampColour * second);
    float power = mix(120.0, 6.0, rough);
    float glint = pow(max(0.0, dot(N, normalize(sun + V))), power) * visible * step(0.0, facing);
    float glint2 = pow(max(0.0, dot(N, normalize(L + V))), power) / (1.0 + far);
    float edge = 0.04 + 0.96 * pow(1.0 - max(0.0, dot(N, V)), 5.0);
    vec3 R = reflect(-V, N);
    vec3 seen = mix(ground, sky * 1.3, smoothstep(-0.3, 0.5, R.z + 0.25 * sin(R.x * 5.0) * sin(R.y * 4.0)));
    light += shine * ((glint * sunColour + glint2 * lampColour) * (1.0 - rough) * 1.2 + edge * seen * (1.0 - rough) + base * seen * 0.35 * (1.0 - rough));
    result = vec4(min(light, vec3(8.0)), a);
}"""

_LABEL_VERTEX = "#version 330\n" + _PROJECT + """
in vec3 position; in vec2 uv; uniform float tile; out vec2 t; out float away;
void main() { t = tile > 0.0 ? uv / tile : uv; gl_Position = project((model * vec4(position, 1.0)).xyz, away); }"""

_LABEL_FRAGMENT = """#version 330
uniform float label, cut; uniform sampler2D image; in vec2 t; in float away; out vec2 result;
void main() { if (cut > 0.5 && texture(image, t).a < 0.5) discard; result = vec2(label, away); }"""

_SHADOW_VERTEX = """#version 330
uniform mat4 model, shadow; in vec3 position; void main() { gl_Position = shadow * model * vec4(position, 1.0); }"""
_SHADOW_FRAGMENT = "#version 330\nvoid main() {}"

_SKY_VERTEX = "#version 330\nin vec2 p; out vec2 q; void main() { q = p; gl_Position = vec4(p, 0.9999, 1.0); }"
_SKY_FRAGMENT = """#version 330
uniform mat3 axes; uniform float bend, lens, aspect; uniform vec3 horizon, zenith, ground; in vec2 q; out vec4 result;
void main() {
    vec2 p = vec2(q.x, q.y / aspect) * lens; float r = length(p); float angle = atan(r * bend) / bend;
    vec3 d = transpose(axes) * vec3(r > 1e-6 ? p / r * sin(angle) : vec2(0.0), -cos(angle));
    vec3 c = d.z > 0.0 ? mix(horizon, zenith, sqrt(d.z)) : mix(horizon * 0.7, ground, min(1.0, -d.z * 6.0));
    result = vec4(c, 1.0);
}"""


class Renderer:
    """An off-screen context with its programs and caches. Not for use from several threads."""

    def __init__(self, textures: dict[str, np.ndarray], shadow: int = 640):
        moderngl = need("moderngl", "synth")
        os.environ.setdefault("LP_NUM_THREADS", "1")  # one process per core is faster than threads
        try:
            self.context = moderngl.create_standalone_context(backend="egl", require=330)
        except Exception as error:  # moderngl raises plain Exception here
            raise NoOpenGL(f"no off-screen OpenGL 3.3 here ({error}); on Debian install libegl1 and libgl1-mesa-dri") from error
        self.textures = textures
        self.moderngl = moderngl
        context = self.context
        self.program = context.program(_VERTEX, _FRAGMENT)
        self.label_program = context.program(_LABEL_VERTEX, _LABEL_FRAGMENT)
        self.shadow_program = context.program(_SHADOW_VERTEX, _SHADOW_FRAGMENT)
        self.sky_program = context.program(_SKY_VERTEX, _SKY_FRAGMENT)
        corners = np.array([-1, -1, 1, -1, -1, 1, 1, 1], "f4")
        self.sky_array = context.vertex_array(self.sky_program, [(context.buffer(corners.tobytes()), "2f", "p")])
        self.shadow_texture = context.depth_texture((shadow, shadow))
        self.shadow_texture.compare_func = "<="
        self.shadow_target = context.framebuffer([], self.shadow_texture)
        self.blank = context.texture((1, 1), 4, b"\xff\xff\xff\xff")
        self.targets: dict[tuple[int, int], tuple] = {}
        self.uploaded: OrderedDict = OrderedDict()
        self.images: OrderedDict = OrderedDict()

    def _target(self, size, smooth: bool):
        key = (size, smooth)
        if key not in self.targets:
            if len(self.targets) > 24:
                for items in self.targets.values():
                    for item in items:
                        item.release()
                self.targets.clear()
            context = self.context
            samples = min(4, context.max_samples) if smooth else 0
            buffers = (context.renderbuffer(size, 4, samples=samples, dtype="f2"), context.depth_renderbuffer(size, samples=samples),
                       context.depth_renderbuffer(size))
            colour = context.texture(size, 4, dtype="f2")
            labels = context.texture(size, 2, dtype="f4")
            # A framebuffer does not own its attachments: they are kept here so that they can be released with it.
            self.targets[key] = (context.framebuffer([buffers[0]], buffers[1]), context.framebuffer([colour]),
                                  context.framebuffer([labels], buffers[2]), colour, labels, *buffers)
        return self.targets[key][:5]

    def _image(self, name):
        if name not in self.images:
            pixels = self.textures[name]
            texture = self.context.texture((pixels.shape[1], pixels.shape[0]), pixels.shape[2], np.ascontiguousarray(pixels[::-1]).tobytes(), alignment=1)
            texture.build_mipmaps()
            self.images[name] = texture
            if len(self.images) > 2500:
                self.images.popitem(last=False)[1].release()
        self.images.move_to_end(name)
        return self.images[name]

    def _arrays(self, part):
        """Three vertex arrays (colour, label, shadow) of a part; those of static meshes are kept."""
        mesh = part.mesh
        key = id(mesh)
        if part.static and key in self.uploaded:
            self.uploaded.move_to_end(key)
            return self.uploaded[key][1]
        context = self.context
        data = np.concatenate([mesh.vertices, mesh.normals, mesh.uv, mesh.colour], 1).astype("f4")
        buffer = context.buffer(data.tobytes())
        index = context.buffer(np.ascontiguousarray(mesh.faces, "i4").tobytes())
        arrays = (context.vertex_array(self.program, [(buffer, "3f 3f 2f 3f", "position", "normal", "uv", "tint")], index),
                  context.vertex_array(self.label_program, [(buffer, "3f 12x 2f 12x", "position", "uv")], index),
                  context.vertex_array(self.shadow_program, [(buffer, "3f 32x", "position")], index), buffer, index)
        if part.static:
            self.uploaded[key] = (mesh, arrays)  # the mesh is kept so that its id stays taken
            if len(self.uploaded) > 1500:
                for item in self.uploaded.popitem(last=False)[1][1]:
                    item.release()
        return arrays

    def render(self, scene: SceneDescription) -> Rendered:
        """Draws the scene at its camera's size."""
        moderngl, context, camera, light = self.moderngl, self.context, scene.camera, scene.light
        size = camera.size
        many, single, label_target, colour, labels = self._target(size, not scene.look.hides_steps())
        drawn = [(part, self._arrays(part)) for part in scene.parts]
        context.enable(moderngl.DEPTH_TEST)
        context.disable(moderngl.BLEND)

        matrix = _shadow_matrix(light)
        self.shadow_target.use()
        self.shadow_target.clear()
        _set(self.shadow_program, shadow=matrix.T)
        for part, arrays in drawn:
            if part.material.alpha > 0.9 and _near(part, light):
                _set(self.shadow_program, model=part.matrix.T)
                arrays[2].render()

        view = {"axes": camera.axes.T, "eye": camera.position, "bend": camera.bend, "lens": camera.scale(), "aspect": size[0] / size[1]}
        many.use()
        many.clear(*light.horizon, 1.0)
        _set(self.sky_program, horizon=light.horizon, zenith=light.zenith, ground=light.ground, **view)
        context.disable(moderngl.DEPTH_TEST)
        self.sky_array.render(moderngl.TRIANGLE_STRIP)
        context.enable(moderngl.DEPTH_TEST)
        program = self.program
        _set(program, shadow=matrix.T, sun=light.sun, sunColour=light.sun_colour, sky=light.sky, ground=light.ground, lamp=light.lamp,
             lampColour=light.lamp_colour, softness=light.softness, image=0, shade=1, **view)
        self.shadow_texture.use(1)
        for blended in (False, True):
            if blended:
                context.enable(moderngl.BLEND)
                context.blend_func = moderngl.SRC_ALPHA, moderngl.ONE_MINUS_SRC_ALPHA
            for part, arrays in drawn:
                material = part.material
                if (material.alpha < 0.9) != blended:
                    continue
                (self._image(material.texture) if material.texture else self.blank).use(0)
                _set(program, model=part.matrix.T, paint=material.tint, textured=float(material.texture is not None), rough=material.rough,
                     shine=material.shine, alpha=material.alpha, wrap=material.soft, cut=float(material.cut), tile=material.tile)
                arrays[0].render()
        context.disable(moderngl.BLEND)
        context.copy_framebuffer(single, many)
        rgb = np.frombuffer(colour.read(), np.float16).reshape(size[1], size[0], 4)[::-1, :, :3].astype(np.float32)

        label_target.use()
        label_target.clear(0.0, FAR)
        _set(self.label_program, image=0, **view)
        for part, arrays in drawn:
            material = part.material
            if material.cut:
                self._image(material.texture).use(0)
            _set(self.label_program, model=part.matrix.T, label=float(part.label), cut=float(material.cut), tile=material.tile)
            arrays[1].render()
        both = np.frombuffer(labels.read(), np.float32).reshape(size[1], size[0], 2)[::-1]
        for part, arrays in drawn:
            if not part.static:
                for item in arrays:
                    item.release()
        return Rendered(rgb, both[..., 0].round().astype(np.uint8), both[..., 1].copy())


def _set(program, **values) -> None:
    for name, value in values.items():
        if name in program:
            if isinstance(value, int):
                program[name].value = value
            else:
                program[name].write(np.asarray(value, "f4").tobytes())


def _near(part, light) -> bool:
    centre = part.matrix[:3, 3] if part.static else part.mesh.vertices[0]
    return float(np.linalg.norm(centre - light.centre)) < light.radius * 2.5


def _shadow_matrix(light) -> np.ndarray:
    """Orthographic view [4, 4] from the sun on the lit sphere."""
    z = light.sun / np.linalg.norm(light.sun)
    x = np.cross([0.02, 1, 0.05], z)
    x /= np.linalg.norm(x)
    axes = np.stack([x, np.cross(z, x), z])
    matrix = np.eye(4)
    matrix[:3, :3] = axes
    matrix[:3, 3] = -axes @ light.centre
    return np.diag([1 / light.radius, 1 / light.radius, -1 / (light.radius * 2.5), 1]) @ matrix
