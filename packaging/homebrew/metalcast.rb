# A template: "./build.sh formula VERSION DIR" fills in url and sha256.
class Metalcast < Formula
  desc "Convert FP8 checkpoints into ones that Apple-silicon runtimes load"
  homepage "https://github.com/metalcast/metalcast"
  url "@URL@"
  version "@VERSION@"
  sha256 "@SHA256@"
  license "MIT"
  head "https://github.com/metalcast/metalcast.git", branch: "main"

  depends_on "go" => :build

  def install
    system "go", "build", *std_go_args(ldflags: "-w -buildid="), "./cmd/metalcast"
    system bin/"metalcast", "man", buildpath/"man1"
    man1.install Dir[buildpath/"man1/*.1"]
    generate_completions_from_executable(bin/"metalcast", "completion")
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/metalcast version")
    system bin/"metalcast", "synth", testpath/"fp8"
    system bin/"metalcast", "convert", testpath/"fp8", testpath/"bf16", "--verify"
    assert_path_exists testpath/"bf16/config.json"
    system bin/"metalcast", "verify", testpath/"fp8", testpath/"bf16"
  end
end
