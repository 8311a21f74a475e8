/*
 * Parameters: help and checks from nextflow_schema.json, without a plugin.
 */

// Name -> its entry in the schema, with the group it belongs to.
def schemaEntries() {
    def schema = new groovy.json.JsonSlurper().parseText(file("${projectDir}/nextflow_schema.json").text)
    return schema.'$defs'.collectMany { _id, group ->
        group.properties.collect { name, entry -> [name, entry + [group: group.title, required: name in (group.required ?: [])]] }
    }.collectEntries()
}

// The text that --help prints.
def helpText() {
    def lines = [
        "${workflow.manifest.name} ${workflow.manifest.version}: ${workflow.manifest.description}",
        '',
        'Usage: nextflow run main.nf --input samplesheet.csv --outdir results [-profile docker] [options]',
    ]
    schemaEntries().groupBy { _name, entry -> entry.group }.each { group, entries ->
        lines += ['', group]
        entries.each { name, entry ->
            def choice = entry['enum'] ? " (${entry['enum'].join(', ')})" : ''
            def usual = entry['default'] != null ? " [${entry['default']}]" : entry.required ? ' [required]' : ''
            lines << String.format('  --%-18s %s%s%s', name, entry.description, choice, usual)
        }
    }
    lines += ['', 'Options with one dash are Nextflow\'s own (-profile, -resume, -params-file, ...). More: docs/usage.md', '']
    return lines.join('\n')
}

// Stops with every wrong, missing or misspelt parameter at once.
def checkParameters(given) {
    def known = schemaEntries()
    def problems = []
    given.keySet().findAll { name -> !known.containsKey(name) }.each { name ->
        def nearest = known.keySet().closest(snakeCase(name))
        problems << "--${name} is no parameter of this pipeline${nearest ? "; did you mean --${nearest[0]}?" : ''} (see --help)"
    }
    known.each { name, entry ->
        def value = given[name]
        def nothing = value == null || value == ''
        if (nothing && entry.required) {
            problems << "--${name} is missing: ${entry.description}"
        }
        else if (nothing && entry['default'] != null) { // of a params file, where it hides the default
            problems << "--${name} is given without a value: leave it out (${entry['default']} is the default), or give one"
        }
        else if (!nothing) {
            def problem = wrongValue(value, entry)
            if (problem) {
                problems << "--${name} ${value}: ${problem}"
            }
        }
    }
    // A setting with a parameter of its own may concern several steps; `--set` tells it to the training alone.
    settingNames(given.set).findAll { name -> known.containsKey(name) }.each { name ->
        problems << "--set ${name}=...: give it as --${name}"
    }
    if (isPath(given.input) && !"${given.input}".contains('://') && file(given.input, glob: false).isDirectory()) {
        problems << "--input ${given.input} is a folder: give the samplesheet"
    }
    if (isPath(given.outdir) && !writable(given.outdir)) {
        problems << "--outdir ${given.outdir}: no folder can be made there or written to; choose another"
    }
    def engine = engineProblem(given)
    if (engine) {
        problems << engine
    }
    if (problems) {
        error("Wrong parameters:\n${problems.collect { problem -> "  * ${problem}" }.join('\n')}\n")
    }
}

// What is wrong with the container engine or its image, or null. On a cluster the engine is needed on the nodes, not here.
def engineProblem(given) {
    def engine = workflow.containerEngine
    if (!engine) {
        return null
    }
    def elsewhere = workflow.profile.tokenize(',').any { name -> name in ['slurm', 'awsbatch', 'googlebatch'] }
    def found = System.getenv('PATH').tokenize(':').any { folder -> file("${folder}/${engine}").exists() }
    if (!elsewhere && !found) {
        return "-profile ${engine}: there is no ${engine} on PATH here; install it, or choose another engine's profile (docker, podman, singularity, apptainer) or conda"
    }
    if ("${given.container}" ==~ /^[.\/].*/ && !file(given.container).exists()) {
        return "--container ${given.container}: there is no such file"
    }
    return null
}

// `nTopGenes` (which is also what Nextflow makes of --n-top-genes) as `n_top_genes`.
def snakeCase(name) {
    return name.replaceAll('([a-z0-9])([A-Z])', '$1_$2').replace('-', '_').toLowerCase()
}

// Names in `name=value,name=value`.
def settingNames(set) {
    return set instanceof String ? set.tokenize(',').collect { setting -> setting.tokenize('=')[0].trim() } : []
}

// Whether a value can be taken for a path: a name without a value is `true`, and a params file may hold anything.
def isPath(value) {
    return value instanceof CharSequence && value
}

// What is wrong with a value, or null.
def wrongValue(value, entry) {
    if (entry.type == 'boolean' && !(value instanceof Boolean)) {
        return 'must be true or false'
    }
    if (entry.type == 'integer' && !(value instanceof Integer || value instanceof Long)) {
        return 'must be a whole number'
    }
    if (entry.type == 'string' && value instanceof Boolean) {
        return 'needs a value'
    }
    if (entry.type == 'string' && (value instanceof Collection || value instanceof Map)) {
        return 'must be one value, not several'
    }
    if (entry.format in ['file-path', 'directory-path', 'path'] && !(value instanceof CharSequence)) {
        return 'must be a path'
    }
    if (entry.minimum != null && value < entry.minimum) {
        return "must be at least ${entry.minimum}"
    }
    if (entry.maximum != null && value > entry.maximum) {
        return "must be at most ${entry.maximum}"
    }
    if (entry['enum'] && !(value in entry['enum'])) {
        def nearest = entry['enum'].closest("${value}")
        return "must be one of ${entry['enum'].join(', ')}${nearest ? "; did you mean ${nearest[0]}?" : ''}"
    }
    if (entry.pattern && !("${value}" ==~ entry.pattern)) {
        return entry.errorMessage ?: "must match ${entry.pattern}"
    }
    return null
}

// True if `folder` is on another machine, or can be made and written to on this one.
def writable(folder) {
    def path = file(folder)
    if (path.scheme != 'file') {
        return true
    }
    path.mkdirs()
    return path.isDirectory() && java.nio.file.Files.isWritable(path)
}

// The seeds of this run: --seed and the next ones.
def seedList(given) {
    return (0..<given.seeds).collect { i -> given.seed + i }
}

// A JSON file of the parameters that bear on the results. Its name comes from its content and it is written once, so
// that it is the same input to the tasks of a resumed run. A copy goes to pipeline_info.
def parametersFile(given) {
    // where and how tasks run, not what they compute
    def noise = ['input', 'outdir', 'help', 'publish_dir_mode', 'container', 'use_gpu', 'validate_files']
    def machines = ['queue', 'gpu_queue', 'cluster_options', 'on_demand', 'gpu_type', 'gpu_machine']
    def kept = schemaEntries().keySet().findAll { name ->
        !(name in noise + machines) && !(name ==~ /(aws|google)_.*/) && given[name] != null
    }
    def json = groovy.json.JsonOutput.prettyPrint(groovy.json.JsonOutput.toJson(kept.collectEntries { name -> [name, given[name]] }))
    def path = workflow.workDir.resolve("parameters/${json.md5()}/params.json")
    if (!path.exists()) {
        path.parent.mkdirs()
        path.text = json
    }
    def published = file("${given.outdir}/pipeline_info/params.json")
    published.parent.mkdirs()
    published.text = json
    return path
}
