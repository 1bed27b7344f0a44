"""Draws scene descriptions with Blender's path tracer (the Python package bpy): indirect light, soft shadows, real gloss.

The picture is path traced; labels and depth come from one more ray-cast pass without sampling noise: every part gets its
instance number as emitted light and its depth through the same lens, with one sample and no filter.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from egohoi.errors import need

from .gl import FAR, Rendered
from .scene import Camera, Part, SceneDescription


class Renderer:
    """Needs the extra `cycles`. samples: rays a pixel, before denoising."""

    def __init__(self, textures: dict[str, np.ndarray], samples: int = 12):
        self.bpy = need("bpy", "cycles")
        self.matrix = need("mathutils", "cycles").Matrix  # comes with bpy
        self.textures = textures
        self.samples = samples
        self.scratch = tempfile.TemporaryDirectory(prefix="egohoi-cycles-")

    def render(self, scene: SceneDescription) -> Rendered:
        """Draws the scene at its camera's size; the fields are those of the OpenGL renderer."""
        wide = _pinhole(scene.camera)
        stage = self._stage(scene, wide)
        rgb = self._shoot(stage, "colour", self.samples)
        for drawn, part in zip(self._objects, scene.parts, strict=True):
            drawn.data.materials[0] = self._number(part.label, part)
        labels_and_depth = self._shoot(stage, "labels", 1)
        labels = labels_and_depth[..., 0] * 255.0
        depth = labels_and_depth[..., 1] * FAR
        columns, rows = _lookup(scene.camera, wide)
        return Rendered(_bilinear(rgb, columns, rows), np.rint(_nearest(labels, columns, rows)).clip(0, 255).astype(np.uint8),
                        np.where((z := _nearest(depth, columns, rows)) > 0, z, FAR).astype(np.float32))

    def _stage(self, scene: SceneDescription, camera: Camera):
        """A fresh Blender scene with meshes, materials, lights and camera."""
        bpy = self.bpy
        bpy.ops.wm.read_factory_settings(use_empty=True)
        stage = bpy.context.scene
        stage.render.engine = "CYCLES"
        stage.cycles.device = "CPU"
        stage.render.resolution_x, stage.render.resolution_y = camera.size
        stage.render.resolution_percentage = 100
        stage.view_settings.view_transform = "Raw"
        stage.cycles.max_bounces = 4
        stage.cycles.diffuse_bounces = 2
        stage.render.image_settings.file_format = "OPEN_EXR"
        stage.render.image_settings.color_depth = "32"
        self._images: dict[str, object] = {}
        self._materials: dict = {}
        self._objects = [self._mesh(part) for part in scene.parts]
        self._light(scene, stage)
        data = bpy.data.cameras.new("camera")
        data.sensor_fit, data.angle = "HORIZONTAL", 2 * float(np.arctan(camera.tan_half))
        data.clip_start, data.clip_end = 0.03, 60.0
        eye = bpy.data.objects.new("camera", data)
        stage.collection.objects.link(eye)
        matrix = np.eye(4)
        matrix[:3, :3] = camera.axes.T
        matrix[:3, 3] = camera.position
        eye.matrix_world = self.matrix(matrix.tolist())  # bare lists would be read as columns
        stage.camera = eye
        return stage

    def _mesh(self, part: Part):
        bpy, mesh = self.bpy, part.mesh
        data = bpy.data.meshes.new("part")
        world = mesh.vertices @ part.matrix[:3, :3].T + part.matrix[:3, 3]
        data.from_pydata(world.astype(float).tolist(), [], mesh.faces.tolist())
        data.polygons.foreach_set("use_smooth", np.ones(len(mesh.faces), bool))
        corners = mesh.faces.ravel()
        uv = mesh.uv / part.material.tile if part.material.tile > 0 else mesh.uv
        data.uv_layers.new(name="uv").data.foreach_set("uv", uv[corners].astype(np.float32).ravel())
        colour = data.color_attributes.new("tint", "FLOAT_COLOR", "POINT")
        paint = np.concatenate([mesh.colour * np.asarray(part.material.tint, np.float32), np.ones((len(mesh.vertices), 1))], 1)
        colour.data.foreach_set("color", paint.astype(np.float32).ravel())
        normals = mesh.normals @ np.linalg.inv(part.matrix[:3, :3])
        normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
        data.normals_split_custom_set_from_vertices(normals.astype(float).tolist())
        data.materials.append(self._look(part.material))
        drawn = bpy.data.objects.new("part", data)
        bpy.context.scene.collection.objects.link(drawn)
        return drawn

    def _look(self, material):
        """Blender's principled surface for a material."""
        if material in self._materials:
            return self._materials[material]
        made = self.bpy.data.materials.new("look")
        made.use_nodes = True
        nodes, links = made.node_tree.nodes, made.node_tree.links
        surface = nodes["Principled BSDF"]
        surface.inputs["Roughness"].default_value = float(np.clip(0.25 + 0.75 * material.rough, 0, 1))
        surface.inputs["Alpha"].default_value = material.alpha
        if material.soft > 0.2:
            surface.inputs["Subsurface Weight"].default_value = 0.2
            surface.inputs["Subsurface Radius"].default_value = (0.010, 0.004, 0.002)
            surface.inputs["Subsurface Scale"].default_value = 0.5
        tint = nodes.new("ShaderNodeVertexColor")
        tint.layer_name = "tint"
        colour = tint.outputs["Color"]
        if material.texture:
            image = nodes.new("ShaderNodeTexImage")
            image.image = self._image(material.texture)
            product = nodes.new("ShaderNodeMix")
            product.data_type, product.blend_type = "RGBA", "MULTIPLY"
            product.inputs["Factor"].default_value = 1.0
            links.new(colour, product.inputs["A"])
            links.new(image.outputs["Color"], product.inputs["B"])
            colour = product.outputs["Result"]
            if material.cut:
                links.new(image.outputs["Alpha"], surface.inputs["Alpha"])
        gamma = nodes.new("ShaderNodeGamma")  # colours are sRGB, the renderer works in linear light
        gamma.inputs["Gamma"].default_value = 2.2
        links.new(colour, gamma.inputs["Color"])
        links.new(gamma.outputs["Color"], surface.inputs["Base Color"])
        self._materials[material] = made
        return made

    def _number(self, label: int, part: Part):
        """A surface that shines with its instance number (red) and its distance along the view axis (green)."""
        cut = part.material.texture if part.material.cut else None
        key = ("number", label, cut)
        if key in self._materials:
            return self._materials[key]
        made = self.bpy.data.materials.new("number")
        made.use_nodes = True
        nodes, links = made.node_tree.nodes, made.node_tree.links
        nodes.clear()
        camera, scale, join = nodes.new("ShaderNodeCameraData"), nodes.new("ShaderNodeMath"), nodes.new("ShaderNodeCombineColor")
        scale.operation = "MULTIPLY"
        scale.inputs[1].default_value = 1 / FAR
        links.new(camera.outputs["View Z Depth"], scale.inputs[0])
        join.inputs[0].default_value = label / 255.0
        links.new(scale.outputs[0], join.inputs[1])
        light, out = nodes.new("ShaderNodeEmission"), nodes.new("ShaderNodeOutputMaterial")
        links.new(join.outputs[0], light.inputs["Color"])
        surface = light.outputs[0]
        if cut:
            image, clear, mix, step = (nodes.new(n) for n in ("ShaderNodeTexImage", "ShaderNodeBsdfTransparent", "ShaderNodeMixShader", "ShaderNodeMath"))
            image.image, step.operation = self._image(cut), "GREATER_THAN"
            links.new(image.outputs["Alpha"], step.inputs[0])
            links.new(step.outputs[0], mix.inputs[0])
            links.new(clear.outputs[0], mix.inputs[1])
            links.new(surface, mix.inputs[2])
            surface = mix.outputs[0]
        links.new(surface, out.inputs["Surface"])
        self._materials[key] = made
        return made

    def _image(self, name: str):
        if name not in self._images:
            pixels = self.textures[name]
            full = np.ones((*pixels.shape[:2], 4), np.float32)
            full[..., : pixels.shape[2]] = pixels.astype(np.float32) / 255
            image = self.bpy.data.images.new(name, pixels.shape[1], pixels.shape[0], alpha=True)
            image.colorspace_settings.name = "Non-Color"
            image.pixels.foreach_set(full[::-1].ravel())
            self._images[name] = image
        return self._images[name]

    def _light(self, scene: SceneDescription, stage) -> None:
        bpy, light = self.bpy, scene.light
        world = bpy.data.worlds.new("world")
        stage.world = world
        world.use_nodes = True
        background = world.node_tree.nodes["Background"]
        background.inputs[0].default_value = (*map(float, 0.5 * (light.sky + light.ground)), 1.0)
        self._background = background
        sun = bpy.data.lights.new("sun", "SUN")
        sun.energy, sun.angle = 3.0, float(np.clip(light.softness * 12, 0.01, 0.4))
        sun.color = tuple(map(float, light.sun_colour))
        lamp = bpy.data.lights.new("lamp", "POINT")
        lamp.energy, lamp.shadow_soft_size = 35.0, 0.2
        lamp.color = tuple(map(float, light.lamp_colour))
        self._lamps = []
        z = light.sun / np.linalg.norm(light.sun)
        x = np.cross([0.02, 1, 0.05], z)
        x /= np.linalg.norm(x)
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
        for data, pose in ((sun, matrix), (lamp, None)):
            drawn = bpy.data.objects.new(data.name, data)
            stage.collection.objects.link(drawn)
            if pose is not None:
                drawn.matrix_world = self.matrix(pose.tolist())
            else:
                drawn.location = tuple(map(float, light.lamp))
            self._lamps.append(drawn)

    def _shoot(self, stage, name: str, samples: int) -> np.ndarray:
        """float32 [H, W, 3] linear picture of the stage as it is."""
        exact = name == "labels"
        stage.cycles.samples = samples
        stage.cycles.use_denoising = not exact
        stage.cycles.pixel_filter_type = "BOX" if exact else "BLACKMAN_HARRIS"
        stage.cycles.filter_width = 0.01 if exact else 1.5
        if exact:
            stage.cycles.max_bounces = 0
            self._background.inputs[1].default_value = 0.0
            for lamp in self._lamps:
                lamp.hide_render = True
        path = Path(self.scratch.name) / f"{name}.exr"
        stage.render.filepath = str(path)
        self.bpy.ops.render.render(write_still=True)
        image = self.bpy.data.images.load(str(path))
        image.colorspace_settings.name = "Non-Color"
        width, height = image.size
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        self.bpy.data.images.remove(image)
        return pixels.reshape(height, width, 4)[::-1, :, :3].copy()


def _pinhole(camera: Camera) -> Camera:
    """A pinhole camera that sees all of a bent one's picture, at about its resolution in the middle."""
    if camera.bend > 0.97:
        return replace(camera, bend=1.0)
    width, height = camera.size
    corner = np.arctan(camera.scale() * np.hypot(1, height / width) * camera.bend) / camera.bend
    reach = float(np.tan(min(corner, 1.3)))
    share = reach / np.hypot(1, height / width)
    # One pixel in the middle of the bent picture spans scale / (width / 2); the pinhole gets the same there.
    pixels = float(np.clip(share / camera.scale(), 1.0, 2.5))
    return Camera(camera.position, camera.axes, share, 1.0, (int(width * pixels), int(height * pixels)))


def _lookup(camera: Camera, wide: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Where each pixel centre of `camera` lies in the picture of the pinhole `wide`: columns and rows [H, W]."""
    width, height = camera.size
    x, y = np.meshgrid((np.arange(width) + 0.5) / width * 2 - 1, -((np.arange(height) + 0.5) / height * 2 - 1) * height / width)
    x, y = x * camera.scale(), y * camera.scale()
    radius = np.maximum(np.hypot(x, y), 1e-9)
    angle = np.minimum(np.arctan(radius * camera.bend) / camera.bend, 1.5)
    longer = np.tan(angle) / radius / wide.tan_half
    half = wide.size[0] / 2
    return half + x * longer * half - 0.5, wide.size[1] / 2 - y * longer * half - 0.5


def _nearest(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    return image[np.clip(np.rint(rows), 0, height - 1).astype(int), np.clip(np.rint(columns), 0, width - 1).astype(int)]


def _bilinear(image: np.ndarray, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    columns, rows = np.clip(columns, 0, width - 1.001), np.clip(rows, 0, height - 1.001)
    left, top = columns.astype(int), rows.astype(int)
    a, b = (columns - left)[..., None], (rows - top)[..., None]
    return ((1 - b) * ((1 - a) * image[top, left] + a * image[top, left + 1])
            + b * ((1 - a) * image[top + 1, left] + a * image[top + 1, left + 1])).astype(np.float32)
