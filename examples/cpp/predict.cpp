// Copyright (C) 2026 The anomalib-mkd authors
// SPDX-License-Identifier: Apache-2.0

// Verdicts of an exported model: predict model.xml part.ppm ...
// Resizing, networks, threshold and scale are in the graph. Images are PPM files (P6, 8 bits), which need no library:
// a camera's frame in RGB can take their place.

#include <fstream>
#include <iostream>
#include <stdexcept>
#include <string>
#include <vector>

#include <openvino/openvino.hpp>

struct Picture {
    size_t height = 0;
    size_t width = 0;
    std::vector<uint8_t> rgb;  // height * width * 3
};

static Picture read_ppm(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic;
    size_t highest = 0;
    Picture picture;
    if (!(file >> magic >> picture.width >> picture.height >> highest) || magic != "P6" || highest != 255)
        throw std::runtime_error("Expected a PPM file (P6, 8 bits) without comments in " + path + ". Convert it.");
    file.get();  // one white space
    picture.rgb.resize(picture.height * picture.width * 3);
    if (!file.read(reinterpret_cast<char*>(picture.rgb.data()), static_cast<std::streamsize>(picture.rgb.size())))
        throw std::runtime_error("Expected a whole PPM file in " + path + ". Save it again.");
    return picture;
}

static ov::CompiledModel load(const std::string& path) {
    ov::Core core;
    auto model = core.read_model(path);
    if (!model->has_rt_info("anomalib_mkd", "metadata") || model->inputs().size() != 1)
        throw std::runtime_error("Expected an export of anomalib-mkd for photos in " + path + ". Export again.");
    const auto metadata = model->get_rt_info<std::string>("anomalib_mkd", "metadata");
    for (const auto* none : {"\"region\": null", "\"smallest_area\": 0"})
        if (metadata.find(none) == std::string::npos)
            throw std::runtime_error("Expected a model without region and smallest area: Python alone applies them.");
    ov::AnyMap config{ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
    const auto precision = model->get_rt_info<std::string>("anomalib_mkd", "inference_precision");
    if (!precision.empty())  // what keeps the verdicts of training
        config["INFERENCE_PRECISION_HINT"] = precision;
    ov::preprocess::PrePostProcessor bytes(model);  // bytes, row after row, instead of planes of floats in 0..1
    bytes.input().tensor().set_element_type(ov::element::u8).set_layout("NHWC");
    bytes.input().preprocess().convert_element_type(ov::element::f32).scale(255.0F);
    bytes.input().model().set_layout("NCHW");
    return core.compile_model(bytes.build(), "CPU", config);
}

int main(int count, char** arguments) try {
    if (count < 3) {
        std::cerr << "Usage: predict MODEL.xml IMAGE.ppm ...\n";
        return 2;
    }
    auto request = load(arguments[1]).create_infer_request();
    for (int number = 2; number < count; ++number) {
        auto picture = read_ppm(arguments[number]);
        request.set_input_tensor(ov::Tensor(ov::element::u8, {1, picture.height, picture.width, 3}, picture.rgb.data()));
        request.infer();
        const float score = request.get_tensor("pred_score").data<float>()[0];
        const bool bad = request.get_tensor("pred_label").data<bool>()[0];  // true for what is not a number, too
        std::cout << arguments[number] << ": " << (bad ? "bad" : "good") << ", score " << score << '\n';
    }
    return 0;
} catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
}
