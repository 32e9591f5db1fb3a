# try.rb FORMULA ARCHIVE: does what "brew install" and "brew test" would do with the formula, as far as it uses Homebrew, where there is no Homebrew.
require "digest"
require "fileutils"
require "open3"
require "pathname"
require "tmpdir"

class Formula
  class << self
    attr_reader :test_block

    %i[desc homepage url version sha256 license head depends_on].each do |field|
      define_method(field) do |*value|
        @fields ||= {}
        value.empty? ? @fields.fetch(field) : @fields[field] = value.first
      end
    end

    def test(&block) = @test_block = block
    def inherited(formula) = @@formula = formula
    def formula = @@formula
  end

  attr_reader :buildpath, :testpath, :prefix

  def initialize(dir)
    @buildpath, @testpath, @prefix = %w[build test prefix].map { |name| Pathname(dir)/name }
    [buildpath, testpath, bin].each(&:mkpath)
  end

  def version = self.class.version
  def bin = prefix/"bin"

  def man1
    Directory.new((prefix/"share/man/man1").to_s)
  end

  def std_go_args(ldflags:) = ["-trimpath", "-o=#{bin}/metalcast", "-ldflags=#{ldflags}"]

  def system(*command)
    Kernel.system(*command.map(&:to_s)) || abort("try.rb: #{command.join(" ")}: #{$?}")
  end

  def shell_output(command)
    output, status = Open3.capture2(command)
    status.success? ? output : abort("try.rb: #{command}: #{status}")
  end

  def generate_completions_from_executable(*command)
    { bash: "etc/bash_completion.d/metalcast", zsh: "share/zsh/site-functions/_metalcast", fish: "share/fish/vendor_completions.d/metalcast.fish" }.each do |shell, path|
      (prefix/path).dirname.mkpath
      (prefix/path).write(shell_output([*command, shell].join(" ")))
    end
  end

  def assert_match(want, text) = text.include?(want) || abort("try.rb: #{text.inspect} does not have #{want.inspect}")
  def assert_path_exists(path) = path.exist? || abort("try.rb: #{path} does not exist")
end

class Directory < Pathname
  def install(files)
    files.empty? && abort("try.rb: nothing to install in #{self}")
    mkpath
    FileUtils.cp(files, self)
  end
end

file, archive = ARGV
load File.expand_path(file)
formula = Formula.formula
digest = Digest::SHA256.file(archive).hexdigest
digest == formula.sha256 || abort("try.rb: #{archive} has sha256 #{digest}, #{file} has #{formula.sha256}")
Dir.mktmpdir do |dir|
  f = formula.new(dir)
  f.system("tar", "-xzf", archive, "-C", f.buildpath, "--strip-components=1")
  Dir.chdir(f.buildpath) { f.install }
  Dir.chdir(f.testpath) { f.instance_eval(&formula.test_block) }
  puts Dir.glob("**/*", base: f.prefix).reject { |path| File.directory?(f.prefix/path) }
end
